//! Times as tools and clouds write them: RFC 3339 in UTC. We write whole seconds and `Z`, because
//! fractions and other zones are what callers trip over.

/// 9999-12-31T23:59:59Z: RFC 3339 has no later second.
const LAST_SECOND: u64 = 253_402_300_799;

/// A time that every caller can read as a number: cargo refuses years beyond 9999, and others
/// numbers beyond 53 or 63 bits.
#[must_use]
pub fn readable(seconds: u64) -> u64 {
    seconds.min(LAST_SECOND)
}

/// So many seconds before an end, for a caller that is to ask again by then. Where the calendar
/// ends there is none.
#[must_use]
pub fn before(end: u64, seconds: u64) -> u64 {
    if end >= LAST_SECOND { LAST_SECOND } else { end.saturating_sub(seconds) }
}

/// Seconds.
const YEAR: u64 = 365 * 24 * 60 * 60;

/// A date on which something ends, as far as it is believed at `now`: within a hundred years. What
/// is beyond is a slip, and at last a number that no caller could read. In seconds of Unix time.
#[must_use]
pub fn believed(end: u64, now: u64) -> u64 {
    end.min(now.saturating_add(100 * YEAR))
}

/// The end of what is issued at `now` for a number of seconds, of which a year at most is believed.
/// A negative number is none.
#[must_use]
pub fn after(seconds: f64, now: u64) -> u64 {
    // As a cast does: what is out of range becomes the nearest number.
    now.saturating_add((seconds as u64).min(YEAR))
}

/// A second of Unix time as RFC 3339 writes it, in UTC. The calendar begins in March, so that the
/// day that comes and goes is the last of a year, and repeats every 146,097 days.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let seconds = seconds.min(LAST_SECOND);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The first second of a day in UTC, from `YYYY-MM-DD`.
#[must_use]
pub fn day(text: &str) -> Option<u64> {
    let numbers: Vec<u64> = text.split('-').map_while(|part| part.parse().ok()).collect();
    let [year @ 1970..=9999, month @ 1..=12, day @ 1..=31] = numbers[..] else { return None };
    let seconds = midnight(year, month, day);
    // The thirtieth of February is another day.
    rfc3339(seconds).starts_with(text).then_some(seconds)
}

/// Seconds of Unix time, with or without a fraction in the text. `None`: another zone, or no time
/// at all.
#[must_use]
pub fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.trim().strip_suffix('Z')?.split_once('T')?;
    let time = time.split('.').next()?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 || !(1970..=9999).contains(&year) {
        return None;
    }
    Some(midnight(year, month, day) + hour * 3_600 + minute * 60 + second)
}

/// The first second of a day from 1970 on.
fn midnight(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    (days - 719_468) * 86_400
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let mut parts = text.split(between).map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u64>().ok().filter(|_| digits)
    });
    let all = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_as_rfc_3339_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (LAST_SECOND, "9999-12-31T23:59:59Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "2026",
            "2026-02",
            "2026-02-29",
            "2026-02-30",
            "2026-13-01",
            "2026-1-1",
            "2026-01-01-01",
            "1969-12-31",
            "+2026-01-01",
            "10000-01-01",
            "2026-01-01T00:00:00Z",
        ] {
            assert_eq!(day(text), None, "{text}");
        }
    }

    /// Every day of four centuries follows the one before it.
    #[test]
    fn no_day_is_left_out() {
        let by = |year: u64, number| year.is_multiple_of(number);
        let leap = |year| by(year, 4) && (!by(year, 100) || by(year, 400));
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for number in 0..146_097 {
            let expected = format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
            assert_eq!(rfc3339(number * 86_400), expected);
            assert_eq!(super::day(&expected[..10]), Some(number * 86_400));
            let length = match month {
                2 => 28 + u64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2000-03-01T00:00:00.123Z", Some(951_868_800)),
            (" 2024-12-31T23:59:59Z\n", Some(1_735_689_599)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("2024-12-31T23:59:59+01:00", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-12-31", None),
            ("+2024-12-31T00:00:00Z", None),
            ("2024-12-31T00:00Z", None),
            ("99999999999999999999-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(super::seconds(text), seconds, "{text}");
        }
    }
}
