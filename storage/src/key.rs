//! Keys of the four trees, the same in memory and in LMDB.
//!
//! | tree | key | holds |
//! |---|---|---|
//! | `Eav` | e · a · v · start | facts that hold, by entity |
//! | `Ave` | a · v · e · start | facts that hold, by value |
//! | `Heav` | e · a · end · start · v | closed intervals, by entity |
//! | `Have` | a · v · end · start · e | closed intervals, by value |
//!
//! 1. Every part is order-preserving and self-delimiting: entities by
//!    `codec::put_entity`, attributes and t by `codec::put_uint`, values by
//!    `codec::encode`.
//! 2. A value whose encoding is over [`VALUE_MAX`] bytes stands in keys as its
//!    first `VALUE_MAX` bytes and 16 bytes of its blake3 hash; the encoding
//!    itself is in the blob tree under that hash. Such keys sort right up to
//!    the prefix: whoever needs the exact order looks at the full encoding.
//! 3. `end` stands before `start` in history, so a read as of T seeks to the
//!    first interval that ended after T.

use crate::error::{Damage, Res, StorageError};
use annals_model::{AttrId, EntityId, T, codec};
use smallvec::SmallVec;
use std::{borrow::Borrow, cell::RefCell, cmp::Ordering, fmt, ops::Deref};

/// Longest encoding of a value that stands in a key in full.
pub(crate) const VALUE_MAX: usize = 320;
/// Bytes of hash that stand for the rest of a longer one.
pub(crate) const HASH: usize = 16;

/// An owned key, ordered by its bytes. Most keys fit in place, and most comparisons are decided by
/// the first or second word.
pub(crate) struct Key(SmallVec<[u8; 36]>);

impl Key {
    /// The least key.
    pub fn new() -> Key {
        Key(SmallVec::new())
    }
    pub fn from_slice(bytes: &[u8]) -> Key {
        Key(SmallVec::from_slice(bytes))
    }
    /// This key and one byte more.
    pub fn push(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

impl Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Clone for Key {
    fn clone(&self) -> Key {
        Key::from_slice(self)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self[..] == other[..]
    }
}
impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Key) -> Ordering {
        let (x, y): (&[u8], &[u8]) = (self, other);
        if let (Some((a, xs)), Some((b, ys))) = (x.split_first_chunk(), y.split_first_chunk()) {
            let (a, b) = (u64::from_be_bytes(*a), u64::from_be_bytes(*b));
            if a != b {
                return a.cmp(&b);
            }
            if let (Some((a, _)), Some((b, _))) = (xs.split_first_chunk(), ys.split_first_chunk()) {
                let (a, b) = (u64::from_be_bytes(*a), u64::from_be_bytes(*b));
                if a != b {
                    return a.cmp(&b);
                }
            }
        }
        x.cmp(y)
    }
}

/// One of the four fact trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tree {
    Eav = 0,
    Ave = 1,
    Heav = 2,
    Have = 3,
}

impl Tree {
    pub const ALL: [Tree; 4] = [Tree::Eav, Tree::Ave, Tree::Heav, Tree::Have];
}

/// A key taken apart. `v` is as it stands in the key (2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub e: EntityId,
    pub a: AttrId,
    pub v: &'a [u8],
    pub start: T,
    /// [`T::MAX`] in the current trees.
    pub end: T,
}

/// A value that was cut: the hash that stands for it, and its full encoding.
pub(crate) type Cut = ([u8; HASH], Vec<u8>);

/// A value's encoding as it stands in keys, and its hash when it was cut.
pub(crate) fn value_in_key(full: Vec<u8>) -> (Vec<u8>, Option<Cut>) {
    if full.len() <= VALUE_MAX {
        return (full, None);
    }
    let hash = hash_of(&full);
    let mut cut = full[..VALUE_MAX].to_vec();
    cut.extend_from_slice(&hash);
    (cut, Some((hash, full)))
}

pub(crate) fn hash_of(full: &[u8]) -> [u8; HASH] {
    blake3::hash(full).as_bytes()[..HASH].try_into().expect("blake3 gives 32 bytes")
}

/// The hash at the end of a cut value, when it was cut.
pub(crate) fn cut_hash(v: &[u8]) -> Option<[u8; HASH]> {
    if v.len() > VALUE_MAX { v[VALUE_MAX..].try_into().ok() } else { None }
}

/// How many bytes of `bytes` are the value they begin with.
pub(crate) fn value_len(bytes: &[u8]) -> Res<usize> {
    match codec::skip(&bytes[..bytes.len().min(VALUE_MAX)]) {
        Ok(n) => Ok(n),
        Err(codec::CodecError::Short) if bytes.len() >= VALUE_MAX + HASH => Ok(VALUE_MAX + HASH),
        Err(e) => Err(StorageError::index(e)),
    }
}

/// Appends the key of a fact in a tree.
pub(crate) fn write(tree: Tree, p: &Parts<'_>, out: &mut Vec<u8>) {
    let (e, a, start, end) = (p.e, u64::from(p.a.raw()), p.start.0, p.end.0);
    match tree {
        Tree::Eav => {
            codec::put_entity(e, out);
            codec::put_uint(a, out);
            out.extend_from_slice(p.v);
            codec::put_uint(start, out);
        }
        Tree::Ave => {
            codec::put_uint(a, out);
            out.extend_from_slice(p.v);
            codec::put_entity(e, out);
            codec::put_uint(start, out);
        }
        Tree::Heav => {
            codec::put_entity(e, out);
            codec::put_uint(a, out);
            codec::put_uint(end, out);
            codec::put_uint(start, out);
            out.extend_from_slice(p.v);
        }
        Tree::Have => {
            codec::put_uint(a, out);
            out.extend_from_slice(p.v);
            codec::put_uint(end, out);
            codec::put_uint(start, out);
            codec::put_entity(e, out);
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The key of a fact in a tree.
pub(crate) fn of(tree: Tree, p: &Parts<'_>) -> Key {
    built(|out| write(tree, p, out))
}

/// The key that `make` writes. (`make` builds no key itself.)
pub(crate) fn built(make: impl FnOnce(&mut Vec<u8>)) -> Key {
    SCRATCH.with_borrow_mut(|out| {
        out.clear();
        make(out);
        Key::from_slice(out)
    })
}

/// Takes a key apart.
pub(crate) fn parse(tree: Tree, key: &[u8]) -> Res<Parts<'_>> {
    let mut r = Parse { key, at: 0 };
    let parts = match tree {
        Tree::Eav => {
            let (e, a) = (r.entity()?, r.attr()?);
            let v = r.value()?;
            Parts { e, a, v, start: r.t()?, end: T::MAX }
        }
        Tree::Ave => {
            let a = r.attr()?;
            let v = r.value()?;
            Parts { a, v, e: r.entity()?, start: r.t()?, end: T::MAX }
        }
        Tree::Heav => {
            let (e, a, end, start) = (r.entity()?, r.attr()?, r.t()?, r.t()?);
            let v = r.value()?;
            Parts { e, a, v, start, end }
        }
        Tree::Have => {
            let a = r.attr()?;
            let v = r.value()?;
            let (end, start) = (r.t()?, r.t()?);
            Parts { a, v, e: r.entity()?, start, end }
        }
    };
    if r.at == key.len() { Ok(parts) } else { Err(StorageError::index(Damage::Layout("a key is too long"))) }
}

/// Appends the key in the value tree of a fact whose key in its entity tree is given: the same parts in
/// another order, none of them read. ([`Tree::Eav`] to [`Tree::Ave`], [`Tree::Heav`] to [`Tree::Have`].)
pub(crate) fn turn(tree: Tree, key: &[u8], out: &mut Vec<u8>) -> Res<()> {
    let mut r = Parse { key, at: 0 };
    r.entity()?;
    let a = r.at;
    r.attr()?;
    let rest = r.at;
    if matches!(tree, Tree::Eav | Tree::Ave) {
        r.value()?;
        let start = r.at;
        out.extend_from_slice(&key[a..start]);
        out.extend_from_slice(&key[..a]);
        out.extend_from_slice(&key[start..]);
    } else {
        r.t()?;
        r.t()?;
        let v = r.at;
        out.extend_from_slice(&key[a..rest]);
        out.extend_from_slice(&key[v..]);
        out.extend_from_slice(&key[rest..v]);
        out.extend_from_slice(&key[..a]);
    }
    Ok(())
}

/// The entity and the attribute that a key of the entity trees begins with.
pub(crate) fn entity_and_attr(key: &[u8]) -> Res<(EntityId, AttrId)> {
    let mut r = Parse { key, at: 0 };
    Ok((r.entity()?, r.attr()?))
}

/// Length of the part of a key that readers never split: the entity in the
/// entity trees, attribute and value (without the hash of a cut one) in the others.
pub(crate) fn group_len(tree: Tree, key: &[u8]) -> Res<usize> {
    let mut r = Parse { key, at: 0 };
    match tree {
        Tree::Eav | Tree::Heav => drop(r.entity()?),
        Tree::Ave | Tree::Have => {
            r.attr()?;
            let v = r.value()?;
            if v.len() > VALUE_MAX {
                return Ok(r.at - HASH);
            }
        }
    }
    Ok(r.at)
}

/// Length of the part of a history key that stands before `end`.
pub(crate) fn before_end(tree: Tree, key: &[u8]) -> Res<usize> {
    let mut r = Parse { key, at: 0 };
    match tree {
        Tree::Eav | Tree::Heav => {
            r.entity()?;
            r.attr()?;
        }
        Tree::Ave | Tree::Have => {
            r.attr()?;
            r.value()?;
        }
    }
    Ok(r.at)
}

/// The first key after all that begin with `prefix`; none when there is no such key.
pub(crate) fn after(prefix: &[u8]) -> Option<Key> {
    let last = prefix.iter().rposition(|&b| b != 0xFF)?;
    let mut out = Key::from_slice(&prefix[..=last]);
    out.0[last] += 1;
    Some(out)
}

struct Parse<'a> {
    key: &'a [u8],
    at: usize,
}

impl<'a> Parse<'a> {
    fn entity(&mut self) -> Res<EntityId> {
        let (e, n) = codec::get_entity(&self.key[self.at..]).map_err(StorageError::index)?;
        self.at += n;
        Ok(e)
    }
    fn attr(&mut self) -> Res<AttrId> {
        let (a, n) = codec::get_uint(&self.key[self.at..]).map_err(StorageError::index)?;
        self.at += n;
        let a = u32::try_from(a)
            .map_err(|_| StorageError::index(Damage::Layout("an attribute id is too large")))?;
        Ok(AttrId::new(a))
    }
    fn t(&mut self) -> Res<T> {
        let (t, n) = codec::get_uint(&self.key[self.at..]).map_err(StorageError::index)?;
        self.at += n;
        Ok(T(t))
    }
    fn value(&mut self) -> Res<&'a [u8]> {
        let rest = &self.key[self.at..];
        let n = value_len(rest)?;
        self.at += n;
        Ok(&rest[..n])
    }
}

/// The key of a side row as of a record.
pub(crate) fn of_row(table: u8, key: &[u8], t: T) -> Key {
    let mut out = row_prefix(table, key);
    codec::put_uint(t.0, &mut out);
    Key::from_slice(&out)
}

/// What the keys of all versions of a side row begin with.
pub(crate) fn row_prefix(table: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 10);
    out.push(table);
    codec::put_text(key, &mut out);
    out
}

/// How much of the key of a side row is the row's; what follows is the record.
pub(crate) fn row_prefix_len(key: &[u8]) -> Res<usize> {
    let rest = key.get(1..).ok_or(StorageError::index(Damage::Short))?;
    Ok(1 + codec::text_len(rest).map_err(StorageError::index)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_model::{Partition, Value};
    use proptest::prelude::*;

    fn hex(k: &[u8]) -> String {
        k.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_bytes_are_what_the_table_says() {
        let v = codec::encoded(&Value::from("ab"));
        let e = EntityId::new(Partition::User, 0x1234);
        let p = Parts { e, a: AttrId::new(300), v: &v, start: T(5), end: T(70_000) };
        let keys: Vec<String> = Tree::ALL.into_iter().map(|t| hex(&of(t, &p))).collect();
        assert_eq!(
            keys,
            [
                "221234f13c5c61620005",
                "f13c5c61620022123405",
                "221234f13cfa011170055c616200",
                "f13c5c616200fa01117005221234"
            ]
        );
        assert_eq!(hex(&of_row(2, b"k\0", T(1))), "026b01010001");
    }

    proptest! {
        #[test]
        fn keys_come_apart_as_they_were_made(
            e in any::<u64>(), a in any::<u32>(), n in 0usize..1000, start in 0u64..1 << 44, end in 0u64..1 << 44,
        ) {
            let (v, cut) = value_in_key(codec::encoded(&Value::string("x".repeat(n))));
            prop_assert_eq!(cut.is_some(), n > VALUE_MAX - 2);
            for tree in Tree::ALL {
                let closed = matches!(tree, Tree::Heav | Tree::Have);
                let p = Parts {
                    e: EntityId::from_raw(e),
                    a: AttrId::new(a),
                    v: &v,
                    start: T(start),
                    end: if closed { T(end) } else { T::MAX },
                };
                let k = of(tree, &p);
                prop_assert!(k.len() <= 511);
                prop_assert_eq!(parse(tree, &k).unwrap(), p);
                prop_assert!(after(&k).unwrap() > k);
                let (other, mut turned) = (if closed { Tree::Have } else { Tree::Ave }, Vec::new());
                if matches!(tree, Tree::Eav | Tree::Heav) {
                    turn(tree, &k, &mut turned).unwrap();
                    prop_assert_eq!(&turned[..], &of(other, &p)[..]);
                }
            }
        }

        #[test]
        fn keys_are_ordered_by_their_bytes(
            x in proptest::collection::vec(0u8..3, 0..20), y in proptest::collection::vec(0u8..3, 0..50),
        ) {
            prop_assert_eq!(Key::from_slice(&x).cmp(&Key::from_slice(&y)), x.cmp(&y));
            let longer = [&x[..], &y[..]].concat();
            prop_assert_eq!(Key::from_slice(&x).cmp(&Key::from_slice(&longer)), x.cmp(&longer));
        }

        #[test]
        fn any_bytes_are_a_key_or_an_error(k in any::<Vec<u8>>()) {
            for tree in Tree::ALL {
                drop(parse(tree, &k));
                drop(turn(tree, &k, &mut Vec::new()));
            }
            let _ = row_prefix_len(&k);
        }
    }
}
