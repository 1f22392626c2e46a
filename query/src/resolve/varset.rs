//! Sets of variables as bits.

use crate::eval::rel::Var;

/// A set of variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VarSet(Vec<u64>);

impl VarSet {
    pub(crate) fn insert(&mut self, v: Var) -> bool {
        let (word, bit) = (v as usize / 64, 1 << (v % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }
    pub(crate) fn has(&self, v: Var) -> bool {
        self.0.get(v as usize / 64).is_some_and(|w| w & (1 << (v % 64)) != 0)
    }
    pub(crate) fn all(&self, vars: &[Var]) -> bool {
        vars.iter().all(|v| self.has(*v))
    }
    pub(crate) fn extend(&mut self, vars: impl IntoIterator<Item = Var>) {
        for v in vars {
            self.insert(v);
        }
    }
}

impl FromIterator<Var> for VarSet {
    fn from_iter<I: IntoIterator<Item = Var>>(vars: I) -> VarSet {
        let mut s = VarSet::default();
        s.extend(vars);
        s
    }
}
