//! Points, and their values.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::collection::Field;
use crate::error::Problem;
use crate::value::{MAX_DIMENSIONS, Type, Value, uuid};

/// A point's id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, try_from = "ToldId")]
pub(super) enum PointId {
    Number(u64),
    /// In lower case, with hyphens: so that no other text names it.
    Uuid(String),
}

/// An id as a store tells it.
#[derive(Deserialize)]
#[serde(untagged)]
enum ToldId {
    Number(u64),
    Text(String),
}

impl TryFrom<ToldId> for PointId {
    type Error = &'static str;

    fn try_from(told: ToldId) -> Result<Self, Self::Error> {
        let text = match told {
            ToldId::Number(number) => return Ok(Self::Number(number)),
            ToldId::Text(text) => text,
        };
        // In all the ways in which old versions of the client have let it be written.
        let bare = text.trim_start_matches("urn:uuid:").trim_start_matches('{').trim_end_matches('}');
        let digits: String = bare.chars().filter(|character| *character != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("it is neither a number nor a UUID");
        }
        let digits = digits.to_ascii_lowercase();
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        Ok(Self::Uuid(parts.join("-")))
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Uuid(text) => text.fmt(f),
        }
    }
}

impl PointId {
    /// The id that has this text, if any can.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<u64>() {
            return (number.to_string() == text).then_some(Self::Number(number));
        }
        let is_canonical = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        is_canonical.then(|| Self::Uuid(text.to_owned()))
    }
}

/// A point as a server gives it, but for its parts in JSON, which are read when they are asked for.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) id: PointId,
    pub(super) payload: Part,
    pub(super) vectors: Vectors,
}

/// JSON, or why there is none.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Absent,
    Json(Box<str>),
    Bad(Problem),
}

/// A point's vectors.
#[derive(Debug)]
pub(super) enum Vectors {
    /// The one without name.
    Single(Part),
    Named(HashMap<String, Part>),
    /// None of them can be read.
    Bad(Part),
}

impl Part {
    pub(super) fn of(raw: &RawValue) -> Self {
        match raw.get() {
            "null" => Self::Absent,
            json => Self::Json(json.into()),
        }
    }
}

impl Vectors {
    /// Reads a point's member `vector`.
    pub(super) fn of(raw: &RawValue) -> Result<Self, serde_json::Error> {
        if raw.get().starts_with('{') {
            let named: HashMap<String, &RawValue> = serde_json::from_str(raw.get())?;
            return Ok(Self::Named(named.into_iter().map(|(name, raw)| (name, Part::of(raw))).collect()));
        }
        Ok(Self::Single(Part::of(raw)))
    }

    fn get(&self, name: &str) -> &Part {
        match self {
            Self::Single(part) if name.is_empty() => part,
            Self::Named(named) => named.get(name).unwrap_or(&Part::Absent),
            Self::Bad(part) => part,
            Self::Single(_) => &Part::Absent,
        }
    }
}

/// Where values are put together.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    text: String,
    numbers: Vec<f32>,
}

impl Point {
    /// Bytes of JSON that it holds.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |part: &Part| if let Part::Json(json) = part { json.len() } else { 0 };
        bytes(&self.payload)
            + match &self.vectors {
                Vectors::Single(part) | Vectors::Bad(part) => bytes(part),
                Vectors::Named(named) => named.values().map(bytes).sum(),
            }
    }

    /// A value as the type that is wanted, which `Field::takes`.
    pub(super) fn value<'a>(
        &'a self,
        field: &Field,
        of: Type,
        scratch: &'a mut Scratch,
    ) -> Result<Value<'a>, Problem> {
        match field {
            Field::Id => self.id(of, scratch),
            // A point without payload is one with an empty payload to Qdrant.
            Field::Payload => match &self.payload {
                Part::Absent => Ok(Value::Json("{}")),
                part => part.json(),
            },
            Field::Told(name) => self.vectors.get(name).json(),
            Field::Vector(name) => match (self.vectors.get(name), of) {
                (Part::Json(json), Type::Vector(dimensions)) => {
                    vector(json, dimensions, &mut scratch.numbers)
                }
                (part, _) => part.json(),
            },
        }
        .map(|value| match (value, of) {
            (Value::Json(json), Type::Text) => Value::Text(json),
            (value, _) => value,
        })
    }

    fn id<'a>(&'a self, of: Type, scratch: &'a mut Scratch) -> Result<Value<'a>, Problem> {
        match (&self.id, of) {
            (PointId::Number(number), Type::Bigint) => {
                i64::try_from(*number).map(Value::Integer).map_err(|_| Problem::Range)
            }
            (PointId::Number(_), Type::Uuid) => Err(Problem::Kind("a number")),
            (PointId::Uuid(text), Type::Uuid) => uuid(text).map(Value::Uuid).ok_or(Problem::Syntax),
            (PointId::Uuid(_), Type::Bigint | Type::Numeric) => Err(Problem::Kind("text")),
            (PointId::Number(number), _) => {
                scratch.text = number.to_string();
                Ok(if of == Type::Numeric {
                    Value::Numeric(&scratch.text)
                } else {
                    Value::Text(&scratch.text)
                })
            }
            (PointId::Uuid(text), _) => Ok(Value::Text(text)),
        }
    }

    /// The value as it was told, for messages.
    pub(super) fn tell(&self, field: &Field) -> String {
        const MAX_CHARS: usize = 60;
        let part = match field {
            Field::Id => return self.id.to_string(),
            Field::Payload => &self.payload,
            Field::Vector(name) | Field::Told(name) => self.vectors.get(name),
        };
        let Part::Json(json) = part else { return "(unreadable)".to_owned() };
        let cut: String = json.chars().take(MAX_CHARS).collect();
        if cut.len() < json.len() { cut + "..." } else { cut }
    }
}

impl Field {
    /// Whether values can be given as a type.
    pub(super) fn takes(&self, of: Type) -> bool {
        match self {
            Self::Id => matches!(of, Type::Text | Type::Bigint | Type::Numeric | Type::Uuid),
            Self::Payload | Self::Told(_) => matches!(of, Type::Json | Type::Jsonb | Type::Text),
            Self::Vector(_) => matches!(of, Type::Vector(_) | Type::Json | Type::Jsonb | Type::Text),
        }
    }
}

impl Part {
    fn json(&self) -> Result<Value<'_>, Problem> {
        match self {
            Self::Absent => Ok(Value::Null),
            Self::Json(json) => Ok(Value::Json(json)),
            Self::Bad(problem) => Err(problem.clone()),
        }
    }
}

fn vector<'a>(json: &str, dimensions: Option<u16>, numbers: &'a mut Vec<f32>) -> Result<Value<'a>, Problem> {
    match json.as_bytes().first() {
        Some(b'[') => {}
        Some(b'{') => return Err(Problem::Kind("an object")),
        Some(b'"') => return Err(Problem::Kind("text")),
        _ => return Err(Problem::Kind("a scalar")),
    }
    // A number that is not one is null in JSON.
    let told: Vec<Option<f64>> = serde_json::from_str(json).map_err(|_| Problem::Syntax)?;
    let found = told.len();
    match dimensions {
        Some(expected) if usize::from(expected) != found => {
            return Err(Problem::Dimensions { expected, found });
        }
        _ if found == 0 => return Err(Problem::Empty),
        _ if found > MAX_DIMENSIONS => return Err(Problem::Range),
        _ => {}
    }
    numbers.clear();
    numbers.extend(told.into_iter().map(|number| number.map_or(f32::NAN, |number| number as f32)));
    if numbers.iter().all(|number| number.is_finite()) {
        Ok(Value::Vector(numbers))
    } else {
        Err(Problem::NotFinite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_of_an_id_names_it() {
        assert_eq!(PointId::of_text("18446744073709551615"), Some(PointId::Number(u64::MAX)));
        let uuid = "00000000-0000-0000-0000-00000000004d";
        assert_eq!(PointId::of_text(uuid), Some(PointId::Uuid(uuid.to_owned())));
        for other in [
            "",
            "01",
            "+1",
            "-1",
            " 1",
            "18446744073709551616",
            "1.0",
            "00000000-0000-0000-0000-00000000004D",
            "0000000000000000000000000000004d",
            "00000000-0000-0000-0000-0000000000é",
        ] {
            assert_eq!(PointId::of_text(other), None, "{other}");
        }
    }

    #[test]
    fn an_id_is_told_in_one_way() {
        let read = |json: &str| serde_json::from_str::<PointId>(json).map(|id| id.to_string()).ok();
        let uuid = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
        for spelled in [
            uuid,
            "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
            "6f9619ff8b86d011b42d00cf4fc964ff",
            "{6f9619ff-8b86-d011-b42d-00cf4fc964ff}",
            "urn:uuid:6f9619ff-8b86-d011-b42d-00cf4fc964ff",
        ] {
            assert_eq!(read(&format!("\"{spelled}\"")).as_deref(), Some(uuid), "{spelled}");
        }
        assert_eq!(read("18446744073709551615").as_deref(), Some("18446744073709551615"));
        for wrong in ["-1", "1.5", "18446744073709551616", "\"1\"", "\"name\"", "null", "[1]", "\"é\""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(serde_json::to_string(&PointId::Number(7)).unwrap(), "7");
        assert_eq!(serde_json::to_string(&PointId::Uuid(uuid.to_owned())).unwrap(), format!("\"{uuid}\""));
    }

    #[test]
    fn vectors_are_what_they_should_be_or_refused() {
        let mut numbers = Vec::new();
        assert_eq!(vector("[1, 2.5]", Some(2), &mut numbers), Ok(Value::Vector(&[1.0, 2.5])));
        for (json, problem) in [
            ("[1,2,3]", Problem::Dimensions { expected: 2, found: 3 }),
            ("[1,null]", Problem::NotFinite),
            ("[1,1e300]", Problem::NotFinite),
            ("[1,\"x\"]", Problem::Syntax),
            ("{\"a\":1}", Problem::Kind("an object")),
            ("7", Problem::Kind("a scalar")),
        ] {
            assert_eq!(vector(json, Some(2), &mut numbers).unwrap_err(), problem, "{json}");
        }
        assert_eq!(vector("[]", None, &mut numbers).unwrap_err(), Problem::Empty);
    }
}
