//! The numeric tower: long, bigint, decimal, double.
//!
//! The result of an operation on two types is of the later of the two in this
//! list. Longs overflow to an error and not to bigints, so that the type of a
//! result never depends on the data.

use super::FnError;
use annals_model::Value;
use bigdecimal::{BigDecimal, RoundingMode};
use num_bigint::BigInt;
use num_traits::{FromPrimitive, Signed, ToPrimitive, Zero};
use std::{cmp::Ordering, sync::Arc};

type Answer = Result<Value, FnError>;

/// Largest number of bits of a bigint or of a decimal's digits, so that repeated
/// multiplication cannot eat the memory.
const MAX_BITS: u64 = 40_000;
/// Largest scale of a decimal, either way.
const MAX_SCALE: i64 = 20_000;
/// Digits of a decimal quotient that does not come out even.
const QUOTIENT_DIGITS: u64 = 34;

/// Two numbers brought to the later of their types.
enum Pair {
    Long(i64, i64),
    BigInt(BigInt, BigInt),
    BigDec(BigDecimal, BigDecimal),
    Double(f64, f64),
}

fn type_error(arg: usize, v: &Value, expected: &'static str) -> FnError {
    FnError::Type { arg, expected, found: v.kind() }
}

fn pair(a: &Value, b: &Value, arg: usize) -> Result<Pair, FnError> {
    use Value::*;
    let rank = |v: &Value| match v {
        Long(_) => Some(0),
        BigInt(_) => Some(1),
        BigDec(_) => Some(2),
        Double(_) => Some(3),
        _ => None,
    };
    let ra = rank(a).ok_or_else(|| type_error(arg.saturating_sub(1), a, "number"))?;
    let rb = rank(b).ok_or_else(|| type_error(arg, b, "number"))?;
    Ok(match ra.max(rb) {
        0 => match (a, b) {
            (Long(a), Long(b)) => Pair::Long(*a, *b),
            _ => return Err(type_error(arg, b, "number")),
        },
        1 => Pair::BigInt(to_bigint(a), to_bigint(b)),
        2 => Pair::BigDec(to_decimal(a), to_decimal(b)),
        _ => Pair::Double(to_double(a), to_double(b)),
    })
}

/// Of a long or bigint.
fn to_bigint(v: &Value) -> BigInt {
    match v {
        Value::Long(n) => BigInt::from(*n),
        Value::BigInt(n) => n.as_ref().clone(),
        _ => BigInt::zero(),
    }
}
/// Of a number that is no double.
fn to_decimal(v: &Value) -> BigDecimal {
    match v {
        Value::BigDec(d) => d.as_ref().clone(),
        v => BigDecimal::from(to_bigint(v)),
    }
}
/// Of any number; the nearest double.
pub(super) fn to_double(v: &Value) -> f64 {
    match v {
        Value::Long(n) => *n as f64,
        Value::Double(d) => *d,
        Value::BigInt(n) => n.to_f64().unwrap_or(f64::INFINITY),
        Value::BigDec(d) => d.to_f64().unwrap_or(f64::INFINITY),
        _ => 0.0,
    }
}

fn bigint(n: BigInt) -> Answer {
    if n.bits() > MAX_BITS { Err(FnError::Overflow("bigint")) } else { Ok(Value::BigInt(Arc::new(n))) }
}
fn decimal(d: BigDecimal) -> Answer {
    let (digits, scale) = d.as_bigint_and_exponent();
    if digits.bits() > MAX_BITS || scale.abs() > MAX_SCALE {
        return Err(FnError::Overflow("bigdec"));
    }
    Ok(Value::BigDec(Arc::new(d)))
}
fn double(d: f64) -> Answer {
    Value::double(d).ok_or(FnError::NotANumber)
}
fn long(n: Option<i64>) -> Answer {
    n.map(Value::Long).ok_or(FnError::Overflow("long"))
}

/// May two decimals be added without spreading them over too many digits?
fn aligned(a: &BigDecimal, b: &BigDecimal) -> Result<(), FnError> {
    let distance = a.fractional_digit_count().abs_diff(b.fractional_digit_count());
    if distance > MAX_SCALE as u64 { Err(FnError::Overflow("bigdec")) } else { Ok(()) }
}

/// `a + b`; `arg` is the place of `b` among the arguments.
fn plus(a: &Value, b: &Value, arg: usize) -> Answer {
    match pair(a, b, arg)? {
        Pair::Long(a, b) => long(a.checked_add(b)),
        Pair::BigInt(a, b) => bigint(a + b),
        Pair::BigDec(a, b) => aligned(&a, &b).and_then(|()| decimal(a + b)),
        Pair::Double(a, b) => double(a + b),
    }
}
fn minus(a: &Value, b: &Value, arg: usize) -> Answer {
    match pair(a, b, arg)? {
        Pair::Long(a, b) => long(a.checked_sub(b)),
        Pair::BigInt(a, b) => bigint(a - b),
        Pair::BigDec(a, b) => aligned(&a, &b).and_then(|()| decimal(a - b)),
        Pair::Double(a, b) => double(a - b),
    }
}
fn times(a: &Value, b: &Value, arg: usize) -> Answer {
    match pair(a, b, arg)? {
        Pair::Long(a, b) => long(a.checked_mul(b)),
        Pair::BigInt(a, b) => bigint(a * b),
        Pair::BigDec(a, b) => decimal(a * b),
        Pair::Double(a, b) => double(a * b),
    }
}
fn over(a: &Value, b: &Value, arg: usize) -> Answer {
    match pair(a, b, arg)? {
        Pair::Long(_, 0) => Err(FnError::DivideByZero),
        Pair::Long(a, b) => long(a.checked_div(b)),
        Pair::BigInt(_, b) if b.is_zero() => Err(FnError::DivideByZero),
        Pair::BigInt(a, b) => bigint(a / b),
        Pair::BigDec(_, b) if b.is_zero() => Err(FnError::DivideByZero),
        Pair::BigDec(a, b) => {
            let quotient = &a / &b;
            // As many digits as it has when it comes out even, else a fixed number.
            let exact = &quotient * &b == a;
            decimal(if exact { quotient } else { quotient.with_prec(QUOTIENT_DIGITS) })
        }
        Pair::Double(a, b) => double(a / b),
    }
}

fn fold(args: &[Value], f: fn(&Value, &Value, usize) -> Answer) -> Answer {
    let mut total = args[0].clone();
    for (i, v) in args.iter().enumerate().skip(1) {
        total = f(&total, v, i)?;
    }
    Ok(total)
}

/// The sum of two numbers.
pub fn add(a: &Value, b: &Value) -> Answer {
    plus(a, b, 1)
}
/// The quotient of two numbers: of integers the integer part.
pub fn divide(a: &Value, b: &Value) -> Answer {
    over(a, b, 1)
}

pub(super) fn sum(args: &[Value]) -> Answer {
    match args {
        [] => Ok(Value::Long(0)),
        [a] => plus(&Value::Long(0), a, 0),
        _ => fold(args, plus),
    }
}
pub(super) fn difference(args: &[Value]) -> Answer {
    match args {
        [a] => minus(&Value::Long(0), a, 0),
        _ => fold(args, minus),
    }
}
pub(super) fn product(args: &[Value]) -> Answer {
    match args {
        [] => Ok(Value::Long(1)),
        [a] => times(&Value::Long(1), a, 0),
        _ => fold(args, times),
    }
}
pub(super) fn quotient(args: &[Value]) -> Answer {
    match args {
        [a] => over(&Value::Long(1), a, 0),
        _ => fold(args, over),
    }
}

/// `quot`, `rem` and `mod` share their cases: truncation, sign of the dividend, sign of the divisor.
fn integral(
    args: &[Value],
    longs: fn(i64, i64) -> Option<i64>,
    bigs: fn(&BigInt, &BigInt) -> BigInt,
    decimals: fn(&BigDecimal, &BigDecimal) -> BigDecimal,
    doubles: fn(f64, f64) -> f64,
) -> Answer {
    match pair(&args[0], &args[1], 1)? {
        Pair::Long(_, 0) => Err(FnError::DivideByZero),
        Pair::Long(a, b) => long(longs(a, b)),
        Pair::BigInt(_, b) if b.is_zero() => Err(FnError::DivideByZero),
        Pair::BigInt(a, b) => bigint(bigs(&a, &b)),
        Pair::BigDec(_, b) if b.is_zero() => Err(FnError::DivideByZero),
        Pair::BigDec(a, b) => aligned(&a, &b).and_then(|()| decimal(decimals(&a, &b))),
        Pair::Double(_, 0.0) => Err(FnError::DivideByZero),
        Pair::Double(a, b) => double(doubles(a, b)),
    }
}
fn whole(a: &BigDecimal, b: &BigDecimal) -> BigDecimal {
    // a = q·b + r with r = a % b exact, so q comes out even.
    ((a - a % b) / b).with_scale_round(0, RoundingMode::HalfEven)
}
pub(super) fn quot(args: &[Value]) -> Answer {
    integral(args, i64::checked_div, |a, b| a / b, whole, |a, b| (a / b).trunc())
}
pub(super) fn rem(args: &[Value]) -> Answer {
    integral(args, |a, b| Some(a.checked_rem(b).unwrap_or(0)), |a, b| a % b, |a, b| a % b, |a, b| a % b)
}
pub(super) fn modulo(args: &[Value]) -> Answer {
    fn shift<N: Clone + Zero + Signed>(r: N, b: &N) -> N {
        if !r.is_zero() && r.is_negative() != b.is_negative() { r + b.clone() } else { r }
    }
    integral(
        args,
        // `shift` adds numbers of opposite signs, which cannot overflow.
        |a, b| Some(shift(a.checked_rem(b).unwrap_or(0), &b)),
        |a, b| shift(a % b, b),
        |a, b| shift(a % b, b),
        |a, b| shift(a % b, &b),
    )
}

pub(super) fn inc(args: &[Value]) -> Answer {
    plus(&args[0], &Value::Long(1), 1)
}
pub(super) fn dec(args: &[Value]) -> Answer {
    minus(&args[0], &Value::Long(1), 1)
}
pub(super) fn abs(args: &[Value]) -> Answer {
    match &args[0] {
        Value::Long(n) => long(n.checked_abs()),
        Value::BigInt(n) => bigint(n.abs()),
        Value::BigDec(d) => decimal(d.abs()),
        Value::Double(d) => double(d.abs()),
        v => Err(type_error(0, v, "number")),
    }
}

/// The order of a number and zero.
fn sign(args: &[Value]) -> Result<Ordering, FnError> {
    match &args[0] {
        Value::Long(n) => Ok(n.cmp(&0)),
        Value::BigInt(n) => Ok(n.as_ref().cmp(&BigInt::zero())),
        Value::BigDec(d) => Ok(d.as_ref().cmp(&BigDecimal::zero())),
        Value::Double(d) => Ok(d.partial_cmp(&0.0).unwrap_or(Ordering::Equal)),
        v => Err(type_error(0, v, "number")),
    }
}
pub(super) fn is_pos(args: &[Value]) -> Answer {
    sign(args).map(|o| Value::Bool(o.is_gt()))
}
pub(super) fn is_neg(args: &[Value]) -> Answer {
    sign(args).map(|o| Value::Bool(o.is_lt()))
}
pub(super) fn is_zero(args: &[Value]) -> Answer {
    sign(args).map(|o| Value::Bool(o.is_eq()))
}
fn even(args: &[Value]) -> Result<bool, FnError> {
    match &args[0] {
        Value::Long(n) => Ok(n % 2 == 0),
        Value::BigInt(n) => Ok(!n.bit(0)),
        v => Err(type_error(0, v, "integer")),
    }
}
pub(super) fn is_even(args: &[Value]) -> Answer {
    even(args).map(Value::Bool)
}
pub(super) fn is_odd(args: &[Value]) -> Answer {
    even(args).map(|e| Value::Bool(!e))
}

/// A number of the same type without its fraction.
fn rounded(args: &[Value], doubles: fn(f64) -> f64, mode: RoundingMode) -> Answer {
    match &args[0] {
        v @ (Value::Long(_) | Value::BigInt(_)) => Ok(v.clone()),
        Value::Double(d) => double(doubles(*d)),
        Value::BigDec(d) if d.fractional_digit_count() <= 0 => Ok(args[0].clone()),
        Value::BigDec(d) => decimal(d.with_scale_round(0, mode)),
        v => Err(type_error(0, v, "number")),
    }
}
pub(super) fn floor(args: &[Value]) -> Answer {
    rounded(args, f64::floor, RoundingMode::Floor)
}
pub(super) fn ceil(args: &[Value]) -> Answer {
    rounded(args, f64::ceil, RoundingMode::Ceiling)
}
pub(super) fn round(args: &[Value]) -> Answer {
    rounded(args, f64::round, RoundingMode::HalfUp)
}

fn real(args: &[Value], f: fn(f64) -> f64) -> Answer {
    match &args[0] {
        Value::Long(_) | Value::BigInt(_) | Value::BigDec(_) | Value::Double(_) => {
            double(f(to_double(&args[0])))
        }
        v => Err(type_error(0, v, "number")),
    }
}
pub(super) fn sqrt(args: &[Value]) -> Answer {
    real(args, f64::sqrt)
}
pub(super) fn exp(args: &[Value]) -> Answer {
    real(args, f64::exp)
}
pub(super) fn log(args: &[Value]) -> Answer {
    real(args, f64::ln)
}
pub(super) fn pow(args: &[Value]) -> Answer {
    real(&args[1..], |x| x).map_err(|_| type_error(1, &args[1], "number"))?;
    real(&args[..1], |x| x)?;
    double(to_double(&args[0]).powf(to_double(&args[1])))
}

/// `long`: the integer part of a number; digits of a string; milliseconds of an instant are `inst-ms`.
pub(super) fn as_long(args: &[Value]) -> Answer {
    match &args[0] {
        v @ Value::Long(_) => Ok(v.clone()),
        Value::Ref(e) => long(i64::try_from(e.raw()).ok()),
        Value::BigInt(n) => long(n.to_i64()),
        Value::BigDec(d) => long(d.with_scale_round(0, RoundingMode::Down).to_i64()),
        Value::Double(d) => long(i64::from_f64(d.trunc())),
        Value::String(s) => Ok(s.trim().parse().map_or(Value::Nil, Value::Long)),
        v => Err(type_error(0, v, "number")),
    }
}
pub(super) fn as_bigint(args: &[Value]) -> Answer {
    match &args[0] {
        v @ (Value::Long(_) | Value::BigInt(_)) => bigint(to_bigint(v)),
        Value::BigDec(d) => bigint(d.with_scale_round(0, RoundingMode::Down).as_bigint_and_exponent().0),
        Value::Double(d) => bigint(BigInt::from_f64(d.trunc()).ok_or(FnError::Overflow("bigint"))?),
        v => Err(type_error(0, v, "number")),
    }
}
pub(super) fn as_double(args: &[Value]) -> Answer {
    match &args[0] {
        Value::String(s) => Ok(s.trim().parse().ok().and_then(Value::double).unwrap_or(Value::Nil)),
        _ => real(args, |x| x),
    }
}
pub(super) fn as_bigdec(args: &[Value]) -> Answer {
    match &args[0] {
        v @ (Value::Long(_) | Value::BigInt(_) | Value::BigDec(_)) => decimal(to_decimal(v)),
        // The shortest decimal that reads back as this double.
        Value::Double(d) => match format!("{d:?}").parse::<BigDecimal>() {
            Ok(d) => decimal(d),
            Err(_) => Err(FnError::Overflow("bigdec")),
        },
        v => Err(type_error(0, v, "number")),
    }
}
