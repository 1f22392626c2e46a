//! What serde calls a type: the name that stands in what is stored, so that renaming a Rust type
//! changes nothing where `#[serde(rename = "…")]` keeps the old name.

use serde::{Serialize, Serializer, ser::Impossible};

/// The name of a struct as serde has it; none of what is no struct.
pub(crate) fn of_struct<T: Serialize + ?Sized>(v: &T) -> Option<&'static str> {
    match v.serialize(Listen) {
        Err(Heard(name)) => name,
        Ok(never) => match never {},
    }
}

/// Listens to what a value calls itself, and takes nothing of it.
struct Listen;

/// The name, in place of an error.
#[derive(Debug)]
struct Heard(Option<&'static str>);

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
impl std::error::Error for Heard {}
impl serde::ser::Error for Heard {
    fn custom<T: std::fmt::Display>(_: T) -> Heard {
        Heard(None)
    }
}

enum Never {}
type No = Impossible<Never, Heard>;

macro_rules! nameless {
    ($($name:ident($ty:ty))*) => {$(
        fn $name(self, _: $ty) -> Result<Never, Heard> {
            Err(Heard(None))
        }
    )*};
}

impl Serializer for Listen {
    type Ok = Never;
    type Error = Heard;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    nameless! {
        serialize_bool(bool) serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_f32(f32)
        serialize_f64(f64) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
    }
    fn serialize_none(self) -> Result<Never, Heard> {
        Err(Heard(None))
    }
    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Never, Heard> {
        Err(Heard(None))
    }
    fn serialize_unit(self) -> Result<Never, Heard> {
        Err(Heard(None))
    }
    fn serialize_unit_struct(self, name: &'static str) -> Result<Never, Heard> {
        Err(Heard(Some(name)))
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<Never, Heard> {
        Err(Heard(None))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: &T,
    ) -> Result<Never, Heard> {
        Err(Heard(Some(name)))
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Never, Heard> {
        Err(Heard(None))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<No, Heard> {
        Err(Heard(None))
    }
    fn serialize_tuple(self, _: usize) -> Result<No, Heard> {
        Err(Heard(None))
    }
    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<No, Heard> {
        Err(Heard(Some(name)))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<No, Heard> {
        Err(Heard(None))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<No, Heard> {
        Err(Heard(None))
    }
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<No, Heard> {
        Err(Heard(Some(name)))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<No, Heard> {
        Err(Heard(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_is_called_what_serde_calls_it() {
        #[derive(Serialize)]
        struct Plain {
            n: u32,
        }
        #[derive(Serialize)]
        #[serde(rename = "Subscribe")]
        struct Renamed(u32);
        #[derive(Serialize)]
        #[serde(rename = "Ping")]
        struct Unit;
        #[derive(Serialize)]
        enum Choice {
            One,
        }
        assert_eq!(of_struct(&Plain { n: 1 }), Some("Plain"));
        assert_eq!(of_struct(&Renamed(1)), Some("Subscribe"));
        assert_eq!(of_struct(&Unit), Some("Ping"));
        assert_eq!((of_struct(&Choice::One), of_struct(&7), of_struct("x")), (None, None, None));
    }
}
