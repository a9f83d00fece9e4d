//! A link as a QR code of half blocks, for a phone held to the terminal.

use qrcodegen::{QrCode, QrCodeEcc};

/// `None` when the text is too long for a code that fits a terminal.
pub(super) fn draw(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok().filter(|code| code.size() <= 61)?;
    // Dark modules are drawn as spaces on a light ground, so that it works on dark terminals.
    let light = |x, y| !code.get_module(x, y);
    let quiet = 2;
    let range = -quiet..code.size() + quiet;
    let mut picture = String::new();
    for y in range.clone().step_by(2) {
        for x in range.clone() {
            picture.push(match (light(x, y), light(x, y + 1)) {
                (true, true) => '\u{2588}',
                (true, false) => '\u{2580}',
                (false, true) => '\u{2584}',
                (false, false) => ' ',
            });
        }
        picture.push('\n');
    }
    Some(picture)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_link_becomes_a_square() {
        let picture = super::draw("https://example.com/device?user_code=ABCD-EFGH").unwrap();
        let widths: Vec<_> = picture.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]));
        assert_eq!(widths.len(), widths[0].div_ceil(2));
        assert!(super::draw(&"x".repeat(4_000)).is_none());
    }
}
