//! Secrets, and what may be seen of them.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Text that must not be seen: it has no Display and no Serialize, its Debug is redacted, and it
/// is wiped when dropped. `expose` stands only where the bytes must leave.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Bytes of the longest token.
    pub const LONGEST: usize = 64 << 10;

    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// A token as a variable, a file or a pipe holds it: white space around it and a byte order
    /// mark before it are not its own (rule N1). `is_word` says whether it can be one.
    #[must_use]
    pub fn given(text: &str) -> Self {
        Self::new(text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\u{feff}'))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Lower-case hexadecimal SHA-256: what may be shown or remembered of a token that is gone.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(self.0.as_bytes())
    }

    /// Whether it is one word of visible letters, as every token is, and no longer than any.
    #[must_use]
    pub fn is_word(&self) -> bool {
        let length = self.0.len();
        (1..=Self::LONGEST).contains(&length) && self.0.bytes().all(|byte| byte.is_ascii_graphic())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The prefix that a provider chose so that its tokens are recognised: it may be shown.
    #[must_use]
    pub fn known_prefix(&self) -> Option<&'static str> {
        const KNOWN: &[&str] = &[
            "github_pat_",
            "ghp_",
            "gho_",
            "ghu_",
            "ghs_",
            "ghr_",
            "glpat-",
            "gldt-",
            "glcbt-",
            "hf_",
            "pypi-",
            "npm_",
            "dckr_pat_",
            "ATATT",
            "ATCTT",
        ];
        KNOWN.iter().find(|prefix| self.0.starts_with(**prefix)).copied()
    }
}

/// Equality by digest: the time it takes says nothing about where two secrets differ.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[secret]")
    }
}

/// Lower-case hexadecimal SHA-256.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> String {
    use fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
        assert!(Secret::new("a") == Secret::new("a") && Secret::new("a") != Secret::new("b"));
    }
}
