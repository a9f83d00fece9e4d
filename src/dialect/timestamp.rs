//! Times as several dialects write them: RFC 3339, whole seconds, UTC as `Z`. Fractions and other
//! zones are what callers trip over.

/// Unix time in seconds as `2026-01-02T03:04:05Z`.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    // The last second that four digits of a year can say.
    let seconds = seconds.min(253_402_300_799);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since the first of March of the year 0, in eras of 400 years: leap days come last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + later;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (86_399, "1970-01-01T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_323_045, "2026-01-02T03:04:05Z"),
            (1_835_395_199, "2028-02-28T23:59:59Z"),
            (1_835_395_200, "2028-02-29T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }

    /// Each day is the next one of its month, or the first of the next month.
    #[test]
    fn no_day_is_left_out_in_four_hundred_years() {
        let mut last = (1969, 12, 31);
        for day in 0..146_097_u64 {
            let text = rfc3339(day * 86_400);
            let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().unwrap();
            let now = (number(0..4), number(5..7), number(8..10));
            let (year, month, _) = last;
            let next = [(year, month, last.2 + 1), (year, month + 1, 1), (year + 1, 1, 1)];
            assert!(next.contains(&now), "{last:?} is followed by {now:?}");
            last = now;
        }
        assert_eq!(last, (2369, 12, 31));
    }
}
