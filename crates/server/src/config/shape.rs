//! What a type wants to be deserialized from, learned by deserializing it from nothing and watching what it asks for.
//! No value of the type ever comes out of this: every walk ends in an error on purpose.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use toml::Value;
use warifu_proto::id::{HubId, IssuerId, MerchantId, NetworkId, ReaderId};

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A table with these keys.
    Struct(&'static [&'static str]),
    /// A text, or one of a list of words.
    Text,
    /// Anything else.
    Other,
}

/// What stands at the end of these keys.
pub(super) fn shape_at<T: DeserializeOwned>(keys: &[String]) -> Option<Shape> {
    let found = Cell::new(None);
    // The error is how every walk ends.
    drop(T::deserialize(Walk { keys, end: End::Look(&found) }));
    found.get()
}

/// The keys of a struct; none for anything else.
pub(crate) fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    match shape_at::<T>(&[]) {
        Some(Shape::Struct(fields)) => fields,
        Some(Shape::Text | Shape::Other) | None => &[],
    }
}

/// Whether the field at the end of these keys takes that value, and if not, why not.
pub(super) fn accept<T: DeserializeOwned>(keys: &[String], value: Value) -> Result<(), String> {
    if keys.is_empty() {
        let read = T::deserialize(value);
        return read.map(drop).map_err(|error| error.message().to_owned());
    }
    let outcome = RefCell::new(None);
    drop(T::deserialize(Walk { keys, end: End::Try(&value, &outcome) }));
    outcome.into_inner().unwrap_or(Ok(()))
}

/// Values of which most types take at least one.
pub(super) fn stand_ins() -> Vec<Value> {
    let zero = [0; 16];
    let texts = [
        "x".to_owned(),
        "127.0.0.1:1".to_owned(),
        "http://127.0.0.1:1".to_owned(),
        "env:X".to_owned(),
        "JPY".to_owned(),
        "71000001".to_owned(),
        "2026-01-01T00:00:00.000Z".to_owned(),
        "A".repeat(43),
        NetworkId::from_raw(zero).to_string(),
        HubId::from_raw(zero).to_string(),
        IssuerId::from_raw(zero).to_string(),
        MerchantId::from_raw(zero).to_string(),
        ReaderId::from_raw(zero).to_string(),
    ];
    let mut all = vec![Value::Integer(1), Value::Boolean(false), Value::Array(Vec::new())];
    all.extend(texts.into_iter().map(Value::String));
    all.push(Value::Table(toml::Table::new()));
    all
}

/// How a walk ends.
#[derive(Clone, Copy)]
enum End<'a> {
    Look(&'a Cell<Option<Shape>>),
    Try(&'a Value, &'a RefCell<Option<Result<(), String>>>),
}

/// Walks down the keys.
#[derive(Clone, Copy)]
struct Walk<'a> {
    keys: &'a [String],
    end: End<'a>,
}

/// The walk is over.
#[derive(Debug)]
struct Over;

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("looked at")
    }
}

impl std::error::Error for Over {}

impl serde::de::Error for Over {
    fn custom<M: fmt::Display>(_: M) -> Self {
        Self
    }
}

impl Walk<'_> {
    fn arrive<V>(self, shape: Shape) -> Result<V, Over> {
        if let (End::Look(found), []) = (self.end, self.keys) {
            found.set(Some(shape));
        }
        Err(Over)
    }
}

macro_rules! arrive {
    ($shape:expr; $($method:ident($($arg:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($arg: $type,)* _: V) -> Result<V::Value, Over> {
            $(let _ = $arg;)*
            self.arrive($shape)
        }
    )*};
}

impl<'de> Deserializer<'de> for Walk<'de> {
    type Error = Over;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Over> {
        if self.keys.is_empty() {
            self.arrive(Shape::Struct(fields))
        } else {
            visitor.visit_map(self)
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Over> {
        if self.keys.is_empty() { self.arrive(Shape::Other) } else { visitor.visit_map(self) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Over> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Over> {
        visitor.visit_newtype_struct(self)
    }

    arrive! { Shape::Text;
        deserialize_str() deserialize_string() deserialize_char() deserialize_identifier()
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }
    arrive! { Shape::Other;
        deserialize_any() deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_f32() deserialize_f64()
        deserialize_bytes() deserialize_byte_buf() deserialize_unit() deserialize_seq() deserialize_ignored_any()
        deserialize_unit_struct(name: &'static str) deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
    }
}

impl<'de> MapAccess<'de> for Walk<'de> {
    type Error = Over;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Over> {
        match self.keys {
            [key, ..] => seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some),
            [] => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Over> {
        let rest = self.keys.get(1..).unwrap_or_default();
        match (self.end, rest) {
            (End::Try(value, outcome), []) => {
                let read = seed.deserialize(value.clone()).map(drop);
                outcome.replace(Some(read.map_err(|error| error.message().to_owned())));
                Err(Over)
            }
            (end, keys) => seed.deserialize(Walk { keys, end }),
        }
    }
}
