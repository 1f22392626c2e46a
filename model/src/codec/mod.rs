//! Values as bytes that sort like the values.
//!
//! 1. For any values `a` and `b`: `encode(a) < encode(b)` iff `a < b`.
//! 2. [`decode`] is the inverse of [`encode`].
//! 3. The code is self-delimiting: no encoding is a prefix of another, so
//!    values can stand in the middle of a key ([`skip`] finds where they end).
//!
//! | first byte | value | payload |
//! |---|---|---|
//! | 08 | nil | |
//! | 10, 11 | false, true | |
//! | 1F..30 | long | sign and length in the first byte, then that many bytes |
//! | 34 35 36 | bigint: negative, zero, positive | length, magnitude; complemented when negative |
//! | 38 | double | 8 bytes, sign-flipped |
//! | 3A 3B 3C | bigdec: negative, zero, positive | exponent, digit pairs, then scale |
//! | 40..51 | instant | as long |
//! | 58 | uuid | 16 bytes |
//! | 5A 5B | keyword, symbol | namespace (empty when absent), name: two texts |
//! | 5C 5D | string, uri | text |
//! | 60 | ref | entity |
//! | 70 | bytes | text |
//! | 72 | character | 3 bytes |
//! | 74 75 76 | vector, list, set | values, then 00 |
//! | 77 | map | keys and values in turn, then 00 |
//! | 78 | tagged | symbol, value |
//!
//! *Text* is the bytes with 00 written as 01 01 and 01 as 01 02, ended by 00.
//! *Entity* is one byte `partition << 4 | n`, then the counter in `n` bytes
//! (a partition past 14 is written F and in a byte of its own before the counter).
//!
//! Not here: keys, trees, and what to do with values too long for a key (storage).

mod part;
mod read;
mod write;

pub use part::{get_entity, get_text, get_text_into, get_uint, put_entity, put_text, put_uint, text_len};
pub use write::encode;

use crate::{EntityId, Value};
use read::Reader;

/// Bytes that are not the encoding of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// They end too soon.
    #[error("the bytes of a value end too soon")]
    Short,
    /// No value begins or goes on like this.
    #[error("byte {byte:#04x} where no value has it")]
    Bad {
        /// The offending byte.
        byte: u8,
    },
    /// Nested more deeply than [`MAX_DEPTH`].
    #[error("a value nested too deeply")]
    Deep,
}

/// Deepest nesting that [`decode`] accepts.
pub const MAX_DEPTH: usize = 256;

/// Most trailing zeros a decimal is read with: more can only be damage.
const MAX_ZEROS: u32 = 1 << 24;

const NIL: u8 = 0x08;
const FALSE: u8 = 0x10;
const TRUE: u8 = 0x11;
/// First byte of a long with no payload and not negative.
const LONG: u8 = 0x28;
const BIGINT: u8 = 0x35;
const DOUBLE: u8 = 0x38;
const BIGDEC: u8 = 0x3B;
const INSTANT: u8 = 0x49;
const UUID: u8 = 0x58;
const KEYWORD: u8 = 0x5A;
const SYMBOL: u8 = 0x5B;
const STRING: u8 = 0x5C;
const URI: u8 = 0x5D;
const REF: u8 = 0x60;
const BYTES: u8 = 0x70;
const CHAR: u8 = 0x72;
const VECTOR: u8 = 0x74;
const LIST: u8 = 0x75;
const SET: u8 = 0x76;
const MAP: u8 = 0x77;
const TAGGED: u8 = 0x78;
const END: u8 = 0x00;

/// A value's bytes on their own.
pub fn encoded(v: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    encode(v, &mut out);
    out
}

/// Reads the value that `bytes` begin with; also says how many bytes it takes.
pub fn decode(bytes: &[u8]) -> Result<(Value, usize), CodecError> {
    let mut r = Reader { bytes, at: 0 };
    let v = r.value(0)?;
    Ok((v, r.at))
}

/// Reads the value that `bytes` begin with if it is a long; also says how many bytes it takes. Faster
/// than [`decode`], for readers that meet little else.
#[inline]
pub fn decode_long(bytes: &[u8]) -> Result<Option<(i64, usize)>, CodecError> {
    match bytes.first() {
        Some(&tag) if (LONG - 9..=LONG + 8).contains(&tag) => {
            let (n, len) = read::long(bytes, 1, LONG, tag)?;
            Ok(Some((n, 1 + len)))
        }
        _ => Ok(None),
    }
}

/// Reads the value that `bytes` begin with if it is a ref; also says how many bytes it takes.
#[inline]
pub fn decode_ref(bytes: &[u8]) -> Result<Option<(EntityId, usize)>, CodecError> {
    match bytes.split_first() {
        Some((&REF, rest)) => get_entity(rest).map(|(e, len)| Some((e, 1 + len))),
        _ => Ok(None),
    }
}

/// How many bytes the value that `bytes` begin with takes.
pub fn skip(bytes: &[u8]) -> Result<usize, CodecError> {
    let mut r = Reader { bytes, at: 0 };
    r.skip(0)?;
    Ok(r.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instant, Keyword, Symbol};
    use bigdecimal::BigDecimal;
    use num_bigint::BigInt;
    use proptest::prelude::*;
    use std::sync::Arc;
    use uuid::Uuid;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c]{0,3}", "[\\x00-\\x02é]{0,4}", ".{0,12}"]
    }

    fn leaf() -> impl Strategy<Value = Value> {
        let name = "[a-c]{1,2}(/[a-c]{1,2})?";
        prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::Bool),
            prop_oneof![any::<i64>(), -300i64..300].prop_map(Value::Long),
            (any::<i128>(), 0u32..3).prop_map(|(n, p)| Value::BigInt(Arc::new(BigInt::from(n).pow(p)))),
            any::<f64>().prop_filter_map("NaN", Value::double),
            (prop_oneof![-1000i64..1000, any::<i64>()], -6i64..6)
                .prop_map(|(n, s)| Value::BigDec(Arc::new(BigDecimal::new(BigInt::from(n), s)))),
            any::<i64>().prop_map(|n| Value::Instant(Instant(n))),
            any::<u128>().prop_map(|n| Value::Uuid(Uuid::from_u128(n))),
            name.prop_map(|s| Value::Keyword(Keyword::new(s))),
            name.prop_map(|s| Value::Symbol(Symbol::new(s))),
            text().prop_map(Value::string),
            text().prop_map(|s| Value::Uri(s.into())),
            prop_oneof![0u64..1 << 53, 0u64..5000, any::<u64>()]
                .prop_map(|n| Value::Ref(EntityId::from_raw(n))),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|b| Value::Bytes(b.into())),
            any::<char>().prop_map(Value::Char),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        leaf().prop_recursive(3, 12, 4, |inner| {
            let items = proptest::collection::vec(inner.clone(), 0..4);
            prop_oneof![
                items.clone().prop_map(Value::vector),
                items.clone().prop_map(|v| Value::List(v.into())),
                items.prop_map(Value::set),
                proptest::collection::vec((inner.clone(), inner.clone()), 0..3).prop_map(Value::map),
                inner.prop_map(|v| Value::Tagged(Arc::new((Symbol::new("x/t"), v)))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn byte_order_is_value_order(a in value(), b in value()) {
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
        }

        #[test]
        fn order_holds_within_a_kind(n in any::<(i64, i64)>(), s in (-8i64..8, -8i64..8)) {
            let dec = |n: i64, s| Value::BigDec(Arc::new(BigDecimal::new(BigInt::from(n % 200), s)));
            let (a, b) = (dec(n.0, s.0), dec(n.1, s.1));
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
            let (a, b) = (Value::Long(n.0 >> (n.1 & 63)), Value::Long(n.1 >> (n.0 & 63)));
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
        }

        #[test]
        fn round_trip_and_self_delimiting(v in value(), rest in proptest::collection::vec(any::<u8>(), 0..8)) {
            let alone = encoded(&v);
            let mut bytes = alone.clone();
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(decode(&bytes), Ok((v.clone(), alone.len())));
            prop_assert_eq!(skip(&bytes), Ok(alone.len()));
            let long = decode_long(&bytes).map(|d| d.map(|(n, len)| (Value::Long(n), len)));
            let to = decode_ref(&bytes).map(|d| d.map(|(e, len)| (Value::Ref(e), len)));
            let of = |yes| Ok(if yes { Some((v.clone(), alone.len())) } else { None });
            prop_assert_eq!(long, of(matches!(v, Value::Long(_))));
            prop_assert_eq!(to, of(matches!(v, Value::Ref(_))));
            for cut in 0..alone.len() {
                prop_assert!(skip(&alone[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((v, n)) = decode(&bytes) {
                prop_assert!(n <= bytes.len());
                prop_assert_eq!(decode(&encoded(&v)).map(|d| d.0), Ok(v));
            }
        }

        #[test]
        fn numbers_and_entities_keep_their_order(a in any::<u64>(), b in any::<u64>(), s in 0u32..60) {
            let (a, b) = (a >> s, b >> s);
            let code = |n| { let mut o = Vec::new(); put_uint(n, &mut o); o };
            prop_assert_eq!(get_uint(&code(a)), Ok((a, code(a).len())));
            prop_assert_eq!(code(a).cmp(&code(b)), a.cmp(&b));
            let code = |n| { let mut o = Vec::new(); put_entity(EntityId::from_raw(n), &mut o); o };
            prop_assert_eq!(get_entity(&code(a)), Ok((EntityId::from_raw(a), code(a).len())));
            prop_assert_eq!(code(a).cmp(&code(b)), a.cmp(&b));
        }
    }

    #[test]
    fn the_bytes_are_what_the_table_says() {
        let hex = |v: Value| encoded(&v).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(Value::Long(0)), "28");
        assert_eq!(hex(Value::Long(-1)), "27");
        assert_eq!(hex(Value::Long(300)), "2a012c");
        assert_eq!(hex(Value::Long(i64::MIN)), "1f8000000000000000");
        assert_eq!(hex("a\0b".into()), "5c6101016200");
        assert_eq!(hex(Value::keyword("a/b")), "5a61006200");
        assert_eq!(hex(Value::vector([Value::Nil, Value::Long(1)])), "74082901".to_owned() + "00");
    }
}
