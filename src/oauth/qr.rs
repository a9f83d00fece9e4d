//! A link as a QR code of half blocks, for a phone held to the terminal.

use qrcodegen::{QrCode, QrCodeEcc};

/// Modules around the code.
const QUIET: i32 = 2;

/// Lines of a terminal that the words around the picture need.
const WORDS: i32 = 6;

/// White on black from the fixed part of 256 colours: a theme moves the first 16. A code of light
/// modules on a light ground is read by few.
const COLOURS: &str = "\u{1b}[38;5;231;48;5;16m";
const PLAIN: &str = "\u{1b}[0m";

/// `None` when the code does not fit a terminal of this many columns and rows beside the words
/// that go with it.
pub(super) fn draw(text: &str, (columns, rows): (u16, u16), coloured: bool) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let size = code.size() + 2 * QUIET;
    if size > i32::from(columns) || (size + 1) / 2 + WORDS > i32::from(rows) {
        return None;
    }
    let light = |x, y| !code.get_module(x, y);
    let range = -QUIET..code.size() + QUIET;
    let mut lines = Vec::new();
    for y in range.clone().step_by(2) {
        let mut picture = String::new();
        for x in range.clone() {
            picture.push(match (light(x, y), light(x, y + 1)) {
                (true, true) => '\u{2588}',
                (true, false) => '\u{2580}',
                (false, true) => '\u{2584}',
                (false, false) => ' ',
            });
        }
        if coloured {
            picture = format!("{COLOURS}{picture}{PLAIN}");
        }
        lines.push(picture);
    }
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "https://example.com/device?user_code=ABCD-EFGH";

    #[test]
    fn a_link_becomes_a_square() {
        let picture = draw(LINK, (80, 24), false).unwrap();
        let widths: Vec<_> = picture.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]));
        assert_eq!(widths.len(), widths[0].div_ceil(2));
        assert!(!picture.contains('\u{1b}'));
        let coloured = draw(LINK, (80, 24), true).unwrap();
        for (line, bare) in coloured.lines().zip(picture.lines()) {
            assert_eq!(line, format!("{COLOURS}{bare}{PLAIN}"));
        }
    }

    /// One that does not fit hides the code that is to be typed, or is torn into pieces.
    #[test]
    fn a_picture_that_does_not_fit_is_not_drawn() {
        // 29 modules and a margin of two: 33 columns, 17 rows.
        for (size, fits) in [
            ((33, 23), true),
            ((32, 23), false),
            ((33, 22), false),
            ((30, 100), false),
            ((200, 10), false),
            ((0, 0), false),
        ] {
            assert_eq!(draw(LINK, size, true).is_some(), fits, "{size:?}");
        }
        assert!(draw(&"x".repeat(4_000), (200, 200), true).is_none());
    }
}
