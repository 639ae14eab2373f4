//! Names and titles shown to people.

/// Ranges of invisible characters (Unicode's Default_Ignorable_Code_Point, and the blanks that count as
/// letters or symbols).
const INVISIBLE: [(char, char); 19] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
    ('\u{1d159}', '\u{1d159}'),
];

/// True if a reader would see nothing of `text`: it is empty, or all white space and invisible
/// characters. Among visible characters these are legitimate, as in emoji and in Persian.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || is_invisible(c))
}

fn is_invisible(c: char) -> bool {
    INVISIBLE
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_nothing_is_blank() {
        for text in [
            "",
            " ",
            "\u{3000}",
            "\u{200b}",
            "\u{200b}\u{200d}\u{feff}",
            " \u{2060} ",
            "\u{ad}",
            "\u{115f}\u{3164}",
            "\u{2800}",
            "\u{fe0f}",
            "\u{e0041}",
            "\u{202e}\u{202c}",
        ] {
            assert!(is_blank(text), "{text:?}");
        }
        for text in [
            "a",
            "商店",
            "می\u{200c}خواهم",
            "👩\u{200d}💻",
            "\u{200b}a",
            "-",
        ] {
            assert!(!is_blank(text), "{text:?}");
        }
    }
}
