//! JSON in headers of formats, read as events of YAML, of which JSON is a part (YAML 1.2.2, section 1.3).

use saphyr_parser::{Event, Parser};

use super::{Error, Result};

/// Most values; a LUKS2 header with 32 key slots has about 600.
const VALUES_MAX: usize = 20_000;
/// Deepest nesting; a LUKS2 header has 4.
const DEPTH_MAX: usize = 16;

/// A value. Numbers stay as they are written: most headers write them as strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// A string, a number, `true`, `false`, `null`.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object, in the order in which it is written.
    Map(Vec<(String, Json)>),
}

impl Json {
    /// Reads one value.
    ///
    /// # Errors
    /// `Kind::Corrupt` for what is no JSON object, or is too large or too deep; the message begins with `whose`, what the text is.
    pub fn parse(text: &str, whose: &str) -> Result<Self> {
        let wrong = |what: &str| Error::corrupt(format!("{whose}: {what}"));
        let mut builder = Builder::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|e| wrong(e.info()).with(format!("character {}", e.marker().index())))?;
            builder.take(event).map_err(|what| wrong(what).with(format!("character {}", span.start.index())))?;
        }
        match builder.whole {
            Some(json @ Json::Map(_)) => Ok(json),
            _ => Err(wrong("it holds no object")),
        }
    }

    /// The value of a key of an object.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.pairs().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Keys and values of an object; none of anything else.
    pub fn pairs(&self) -> &[(String, Json)] {
        match self {
            Json::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Json] {
        match self {
            Json::List(items) => items,
            _ => &[],
        }
    }

    /// Text, or a number as it is written.
    pub fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Builder {
    /// What has not ended yet, with the key that waits for its value.
    open: Vec<(Json, Option<String>)>,
    whole: Option<Json>,
    values: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::Scalar(text, ..) => match self.open.last_mut() {
                Some((Json::Map(_), key @ None)) => *key = Some(text.into_owned()),
                _ => return self.put(Json::Text(text.into_owned())),
            },
            Event::SequenceStart(..) => return self.start(Json::List(Vec::new())),
            Event::MappingStart(..) => return self.start(Json::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                let (done, _) = self.open.pop().ok_or("an end without a start")?;
                return self.put(done);
            }
            Event::Alias(_) => return Err("an alias, which JSON does not have"),
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, json: Json) -> Result<(), &'static str> {
        if let Some((Json::Map(_), None)) = self.open.last() {
            return Err("a key that is no string");
        }
        if self.open.len() >= DEPTH_MAX {
            return Err("it is nested too deep");
        }
        self.open.push((json, None));
        Ok(())
    }

    fn put(&mut self, json: Json) -> Result<(), &'static str> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err("it has too many values");
        }
        match self.open.last_mut() {
            None if self.whole.is_some() => return Err("a second value"),
            None => self.whole = Some(json),
            Some((Json::List(items), _)) => items.push(json),
            Some((Json::Map(pairs), key)) => pairs.push((key.take().unwrap_or_default(), json)),
            Some((Json::Text(_), _)) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let json =
            Json::parse(r#"{"a":{"b":[1,"2",{"c":"x\/y\u0041+="}],"d":-5},"e":{},"f":[],"g":true}"#, "x").unwrap();
        let list = json.get("a").and_then(|a| a.get("b")).unwrap().items();
        assert_eq!((list[0].text(), list[1].text()), (Some("1"), Some("2")));
        assert_eq!(list[2].get("c").and_then(Json::text), Some("x/yA+="));
        assert_eq!(json.get("e"), Some(&Json::Map(Vec::new())));
        assert_eq!((json.get("f"), json.get("h")), (Some(&Json::List(Vec::new())), None));
    }

    #[test]
    fn what_is_no_object() {
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        let many = format!("{{\"a\":[{}]}}", "1,".repeat(VALUES_MAX + 1));
        for wrong in ["", "[]", "7", "{", "{\"a\":", "{\"a\":1}}", "{\"a\":&x 1,\"b\":*x}", "{[1]:2}", &deep, &many] {
            let error = Json::parse(wrong, "the area").unwrap_err();
            assert_eq!(error.kind(), crate::base::Kind::Corrupt, "{error}");
            assert!(error.detail().starts_with("the area: "), "{error}");
        }
    }
}
