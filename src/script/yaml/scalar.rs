//! What the texts of scalars stand for by their tags, as PyYAML has it (`yaml/resolver.py`, `yaml/constructor.py`).

use rhai::Dynamic;

/// Most digits of a number that Python makes of a text, unless its base is a power of two.
const DIGITS_MAX: usize = 4300;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    Null,
    Bool,
    Int,
    Float,
    Binary,
    Timestamp,
    Str,
    Seq,
    Map,
    Set,
    Omap,
    Pairs,
    /// The key `<<`.
    Merge,
    /// The key `=`.
    Value,
    /// What no safe reader makes.
    Unknown,
}

impl Tag {
    /// The tag of such a name.
    pub fn of(tag: &str) -> Self {
        match tag.strip_prefix("tag:yaml.org,2002:") {
            Some("null") => Tag::Null,
            Some("bool") => Tag::Bool,
            Some("int") => Tag::Int,
            Some("float") => Tag::Float,
            Some("binary") => Tag::Binary,
            Some("timestamp") => Tag::Timestamp,
            // cloud-init adds the second.
            Some("str" | "python/unicode") => Tag::Str,
            Some("seq") => Tag::Seq,
            Some("map") => Tag::Map,
            Some("set") => Tag::Set,
            Some("omap") => Tag::Omap,
            Some("pairs") => Tag::Pairs,
            Some("merge") => Tag::Merge,
            Some("value") => Tag::Value,
            _ => Tag::Unknown,
        }
    }

    /// Whether such a value is a list, a mapping or a set.
    pub fn is_collection(self) -> bool {
        matches!(self, Tag::Seq | Tag::Map | Tag::Set | Tag::Omap | Tag::Pairs)
    }
}

/// The tag of a text without one. Fractions, which can always be read, count as texts.
pub fn resolved(text: &str) -> Tag {
    let line = text.strip_suffix('\n').filter(|line| !line.is_empty()).unwrap_or(text);
    match line {
        "" | "~" | "null" | "Null" | "NULL" => Tag::Null,
        "<<" => Tag::Merge,
        "=" => Tag::Value,
        "!" | "&" | "*" => Tag::Unknown,
        ".nan" | ".NaN" | ".NAN" => Tag::Float,
        _ if matches!(line.strip_prefix(['-', '+']).unwrap_or(line), ".inf" | ".Inf" | ".INF") => Tag::Float,
        _ if boolean(line).is_some() && is_cased(line) => Tag::Bool,
        _ if looks_like_int(line) => Tag::Int,
        _ if Time::read(line).is_some_and(|time| time.clock.is_some() || line.len() == 10) => Tag::Timestamp,
        _ => Tag::Str,
    }
}

/// The value of a text; none if a tag does not allow the text.
pub fn value(tag: Tag, text: &str) -> Option<Dynamic> {
    let as_text = || Dynamic::from(text.to_string());
    match tag {
        Tag::Null => Some(Dynamic::UNIT),
        Tag::Bool => boolean(text).map(Dynamic::from_bool),
        // A number that is too large stays a text.
        Tag::Int => int(text).map(|number| i64::try_from(number).map_or_else(|_| as_text(), Dynamic::from_int)),
        Tag::Float => is_float(text).then(as_text),
        Tag::Binary => is_base64(text).then(as_text),
        Tag::Timestamp => Time::read(text.strip_suffix('\n').unwrap_or(text))?.is_real().then(as_text),
        Tag::Str => Some(as_text()),
        _ => None,
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" => Some(true),
        "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// Whether a word is written small, large or with a large first letter.
fn is_cased(word: &str) -> bool {
    let rest = word.get(1..).unwrap_or_default();
    let all = |text: &str, wanted: fn(&char) -> bool| text.chars().all(|c| wanted(&c));
    all(rest, char::is_ascii_lowercase) || all(word, char::is_ascii_uppercase)
}

/// Whether a text is digits of a base and `_`.
fn is_digits(text: &str, base: u32) -> bool {
    !text.is_empty() && text.chars().all(|c| c == '_' || c.is_digit(base))
}

fn looks_like_int(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(rest) = text.strip_prefix('0') {
        let of = |mark, base| rest.strip_prefix(mark).is_some_and(|digits| is_digits(digits, base));
        return rest.is_empty() || is_digits(rest, 8) || of('b', 2) || of('x', 16);
    }
    let mut parts = text.split(':');
    parts.next().is_some_and(|first| !first.starts_with('_') && is_digits(first, 10)) && parts.all(is_sixtieth)
}

/// Whether a text is a number below 60.
fn is_sixtieth(text: &str) -> bool {
    matches!(text.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9'])
}

/// A number of `!!int`, the largest there is if it is larger.
fn int(text: &str) -> Option<i128> {
    let text = text.replace('_', "");
    let negative = text.starts_with('-');
    let text = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let number = if text == "0" {
        0
    } else if let Some(digits) = text.strip_prefix("0b") {
        python_int(digits, 2)?
    } else if let Some(digits) = text.strip_prefix("0x") {
        python_int(digits, 16)?
    } else if text.starts_with('0') {
        python_int(text, 8)?
    } else {
        sixtieths(text)?
    };
    Some(if negative { number.saturating_neg() } else { number })
}

/// Numbers below 60 with `:` between them, or one number.
fn sixtieths(text: &str) -> Option<i128> {
    let mut number: i128 = 0;
    for part in text.split(':') {
        number = number.saturating_mul(60).saturating_add(python_int(part, 10)?);
    }
    Some(number)
}

/// A number as Python's `int(TEXT, BASE)` reads it, the largest there is if it is larger.
fn python_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim();
    let negative = text.starts_with('-');
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let marks = match base {
        2 => ["0b", "0B"],
        8 => ["0o", "0O"],
        16 => ["0x", "0X"],
        _ => [" ", " "],
    };
    let text = marks.iter().find_map(|mark| text.strip_prefix(mark)).unwrap_or(text);
    if text.is_empty() || (base == 10 && text.len() > DIGITS_MAX) {
        return None;
    }
    let mut number: i128 = 0;
    for c in text.chars() {
        number = number.saturating_mul(i128::from(base)).saturating_add(i128::from(c.to_digit(base)?));
    }
    Some(if negative { number.saturating_neg() } else { number })
}

/// Whether a text is a number of `!!float`.
fn is_float(text: &str) -> bool {
    let text = text.replace('_', "").to_lowercase();
    let text = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let number = |part: &str| part.trim().parse::<f64>().is_ok();
    matches!(text, ".inf" | ".nan") || text.split(':').all(number)
}

/// Whether a text is base64 as Python reads it: other characters are passed over.
fn is_base64(text: &str) -> bool {
    let (mut place, mut pads) = (0, 0);
    for c in text.chars() {
        match c {
            '=' if place >= 2 => {
                pads += 1;
                if place + pads >= 4 {
                    return text.is_ascii();
                }
            }
            'A'..='Z' | 'a'..='z' | '0'..='9' | '+' | '/' => {
                place = (place + 1) % 4;
                pads = 0;
            }
            _ => {}
        }
    }
    place == 0 && text.is_ascii()
}

/// A day, or a point in time.
struct Time {
    date: [u32; 3],
    clock: Option<[u32; 3]>,
    /// Minutes to or from the time of the world.
    offset: u32,
}

impl Time {
    /// Of `2026-1-30`, `2026-01-30 1:02:03.5 +2:00` and the like.
    fn read(text: &str) -> Option<Self> {
        let mut rest = text.as_bytes();
        let year = digits(&mut rest, 4, 4)?;
        let month = after(&mut rest, b'-').then(|| digits(&mut rest, 1, 2))??;
        let day = after(&mut rest, b'-').then(|| digits(&mut rest, 1, 2))??;
        let mut time = Time { date: [year, month, day], clock: None, offset: 0 };
        if rest.is_empty() {
            return Some(time);
        }
        if !after(&mut rest, b'T') && !after(&mut rest, b't') && !blanks(&mut rest) {
            return None;
        }
        let hour = digits(&mut rest, 1, 2)?;
        let minute = after(&mut rest, b':').then(|| digits(&mut rest, 2, 2))??;
        let second = after(&mut rest, b':').then(|| digits(&mut rest, 2, 2))??;
        time.clock = Some([hour, minute, second]);
        if after(&mut rest, b'.') {
            while rest.first().is_some_and(u8::is_ascii_digit) {
                rest = &rest[1..];
            }
        }
        if !rest.is_empty() {
            time.offset = offset(&mut rest)?;
        }
        rest.is_empty().then_some(time)
    }

    /// Whether there is such a day and time.
    fn is_real(&self) -> bool {
        let [year, month, day] = self.date;
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        let clock = self.clock.is_none_or(|[hour, minute, second]| hour < 24 && minute < 60 && second < 60);
        year > 0 && (1..=days).contains(&day) && clock && self.offset < 24 * 60
    }
}

/// Takes a number of so many digits.
fn digits(rest: &mut &[u8], least: usize, most: usize) -> Option<u32> {
    let count = rest.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
    let (number, behind) = rest.split_at_checked(count)?;
    *rest = behind;
    (count >= least).then(|| number.iter().fold(0, |sum, b| sum * 10 + u32::from(b - b'0')))
}

/// Takes a byte, if it stands there.
fn after(rest: &mut &[u8], byte: u8) -> bool {
    let Some(behind) = rest.strip_prefix(&[byte]) else { return false };
    *rest = behind;
    true
}

/// Takes blanks, if they stand there.
fn blanks(rest: &mut &[u8]) -> bool {
    let count = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    *rest = rest.get(count..).unwrap_or_default();
    count > 0
}

/// Takes `Z` or `+2:00`: minutes.
fn offset(rest: &mut &[u8]) -> Option<u32> {
    blanks(rest);
    if after(rest, b'Z') {
        return Some(0);
    }
    if !after(rest, b'+') && !after(rest, b'-') {
        return None;
    }
    let hours = digits(rest, 1, 2)?;
    let minutes = if after(rest, b':') { digits(rest, 2, 2)? } else { 0 };
    Some(hours * 60 + minutes)
}
