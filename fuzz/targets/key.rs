//! The codec of values: bytes sort like values, decoding inverts encoding, and any
//! bytes are a value or an error.

#![no_main]

use annals_model::{EntityId, Instant, Keyword, Symbol, Value, codec};
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};

fn value(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let kinds = if depth == 0 { 9 } else { 12 };
    Ok(match u.int_in_range(0..=kinds)? {
        0 => Value::Nil,
        1 => Value::Bool(u.arbitrary()?),
        2 => Value::Long(u.arbitrary()?),
        3 => {
            let d: f64 = u.arbitrary()?;
            // Not-a-number is no value, and there is one zero.
            Value::Double(if d.is_nan() || d == 0.0 { 0.0 } else { d })
        }
        4 => Value::Instant(Instant(u.arbitrary()?)),
        5 => Value::string(u.arbitrary::<&str>()?),
        6 => Value::Keyword(Keyword::new(u.arbitrary::<&str>()?)),
        7 => Value::Symbol(Symbol::new(u.arbitrary::<&str>()?)),
        8 => Value::Ref(EntityId::from_raw(u.arbitrary()?)),
        9 => Value::Char(u.arbitrary()?),
        10 => {
            let n = u.int_in_range(0..=4)?;
            Value::vector((0..n).map(|_| value(u, depth - 1)).collect::<Result<Vec<_>>>()?)
        }
        11 => {
            let n = u.int_in_range(0..=4)?;
            Value::set((0..n).map(|_| value(u, depth - 1)).collect::<Result<Vec<_>>>()?)
        }
        _ => {
            let n = u.int_in_range(0..=3)?;
            let entry = |u: &mut Unstructured<'_>| Ok((value(u, depth - 1)?, value(u, depth - 1)?));
            Value::map((0..n).map(|_| entry(u)).collect::<Result<Vec<_>>>()?)
        }
    })
}

fuzz_target!(|data: &[u8]| {
    if let Ok((v, n)) = codec::decode(data) {
        assert_eq!(codec::skip(data), Ok(n));
        let written = codec::encoded(&v);
        assert_eq!(codec::decode(&written), Ok((v, written.len())));
    }
    let mut u = Unstructured::new(data);
    let (Ok(a), Ok(b)) = (value(&mut u, 3), value(&mut u, 3)) else { return };
    let (x, y) = (codec::encoded(&a), codec::encoded(&b));
    assert_eq!(x.cmp(&y), a.cmp(&b), "{a:?} and {b:?}");
    for (v, bytes) in [(&a, &x), (&b, &y)] {
        assert_eq!(codec::decode(bytes).as_ref(), Ok(&(v.clone(), bytes.len())));
    }
    assert!(a == b || !(x.starts_with(&y) || y.starts_with(&x)), "{a:?} is a prefix of {b:?}");
});
