//! Sums of numbers of any type, exact until they are rounded once.

use crate::eval::function::FnError;
use annals_model::{Cell, Dict, Value, cell};
use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use num_traits::{FromPrimitive, ToPrimitive, Zero};
use std::sync::Arc;

/// A sum of numbers of any type.
#[derive(Clone, Default, Debug)]
pub struct Total {
    /// Longs.
    longs: i128,
    /// Doubles that are multiples of 2^-20 and not too large, in units of 2^-20.
    fixed: i128,
    /// Were there doubles?
    doubles: bool,
    /// Everything else.
    wide: Option<Box<Wide>>,
}

#[derive(Clone, Default, Debug)]
struct Wide {
    bigint: Option<BigInt>,
    decimal: Option<BigDecimal>,
    exact: Exact,
}

/// 2^20.
const UNIT: f64 = 1_048_576.0;

impl Total {
    /// Adds a cell's number.
    pub fn push(&mut self, c: Cell, dict: &Dict) -> Result<(), FnError> {
        if let Some(n) = cell::as_long(c) {
            self.longs += i128::from(n);
            return Ok(());
        }
        if let Some(d) = cell::as_double(c) {
            self.double_in(d);
            return Ok(());
        }
        match dict.decode(c) {
            Value::Long(n) => self.longs += i128::from(n),
            Value::Double(d) => self.double_in(d),
            Value::BigInt(n) => *self.wide().bigint.get_or_insert_with(BigInt::zero) += n.as_ref(),
            Value::BigDec(d) => {
                let sum = self.wide().decimal.get_or_insert_with(BigDecimal::zero);
                *sum += d.as_ref();
            }
            v => return Err(FnError::Type { arg: 0, expected: "number", found: v.kind() }),
        }
        Ok(())
    }

    fn wide(&mut self) -> &mut Wide {
        self.wide.get_or_insert_with(Box::default)
    }

    fn double_in(&mut self, d: f64) {
        self.doubles = true;
        let units = d * UNIT;
        if units.abs() < 9.0e15 && units.trunc() == units {
            self.fixed += i128::from(units as i64);
        } else {
            self.wide().exact.add(d);
        }
    }

    /// The sum as the nearest double.
    pub(super) fn double(&self) -> f64 {
        let mut exact = self.wide.as_ref().map(|w| w.exact.clone()).unwrap_or_default();
        exact.add_integer(self.fixed, 1.0 / UNIT);
        exact.add_integer(self.longs, 1.0);
        if let Some(w) = &self.wide {
            exact.add(w.bigint.as_ref().and_then(ToPrimitive::to_f64).unwrap_or(0.0));
            exact.add(w.decimal.as_ref().and_then(ToPrimitive::to_f64).unwrap_or(0.0));
        }
        exact.value()
    }

    /// The sum in the latest type among what was added.
    pub(super) fn value(&self) -> Result<Value, FnError> {
        if self.doubles {
            return Value::double(self.double()).ok_or(FnError::NotANumber);
        }
        let wide = self.wide.as_deref();
        let (bigint, decimal) = (wide.and_then(|w| w.bigint.clone()), wide.and_then(|w| w.decimal.clone()));
        let integers = BigInt::from(self.longs) + bigint.clone().unwrap_or_default();
        Ok(match (decimal, bigint) {
            (Some(d), _) if integers.is_zero() => Value::BigDec(Arc::new(d)),
            (Some(d), _) => Value::BigDec(Arc::new(d + BigDecimal::from(integers))),
            (None, Some(_)) => Value::BigInt(Arc::new(integers)),
            (None, None) => Value::Long(i64::try_from(self.longs).map_err(|_| FnError::Overflow("long"))?),
        })
    }
}

/// A sum of doubles without rounding errors (Shewchuk 1997): parts that do not
/// overlap, smallest first, whose sum is exact.
#[derive(Clone, Default, Debug)]
pub(super) struct Exact {
    parts: Vec<f64>,
    /// Sum of what is infinite or has become so.
    infinite: f64,
}

impl Exact {
    pub(super) fn add(&mut self, mut x: f64) {
        if !x.is_finite() {
            self.infinite += x;
            return;
        }
        let mut kept = 0;
        for i in 0..self.parts.len() {
            let mut y = self.parts[i];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let high = x + y;
            if !high.is_finite() {
                self.infinite += high;
                self.parts.clear();
                return;
            }
            let low = y - (high - x);
            if low != 0.0 {
                self.parts[kept] = low;
                kept += 1;
            }
            x = high;
        }
        self.parts.truncate(kept);
        self.parts.push(x);
    }

    /// Adds `n * scale`; `scale` is a power of two.
    fn add_integer(&mut self, n: i128, scale: f64) {
        const HALF: i128 = 1 << 52;
        // Digits to the base 2^52 are doubles exactly.
        let (mut rest, mut weight) = (n, scale);
        while rest != 0 {
            if let Some(digit) = f64::from_i128(rest % HALF) {
                self.add(digit * weight);
            }
            rest /= HALF;
            weight *= HALF as f64;
        }
    }

    /// The sum, rounded once.
    pub(super) fn value(&self) -> f64 {
        if self.infinite != 0.0 {
            return self.infinite;
        }
        let mut parts = self.parts.iter().rev().copied();
        let Some(mut sum) = parts.next() else { return 0.0 };
        let mut rest = 0.0;
        for part in parts.by_ref() {
            let high = sum + part;
            rest = part - (high - sum);
            sum = high;
            if rest != 0.0 {
                break;
            }
        }
        // A tie was rounded to even; the next part says which way it should have gone.
        if let Some(next) = parts.next()
            && ((rest < 0.0 && next < 0.0) || (rest > 0.0 && next > 0.0))
        {
            let doubled = rest * 2.0;
            let corrected = sum + doubled;
            if corrected - sum == doubled {
                sum = corrected;
            }
        }
        sum
    }
}
