//! A case as read from a file, and the files of a folder.

use annals_model::Value;
use std::{fs, io, path::Path};

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its `:name`.
    pub name: String,
    entries: Value,
}

impl Case {
    /// From a case map.
    pub fn new(map: Value) -> Result<Case, String> {
        match map.get(&Value::keyword("name")) {
            Some(Value::String(name)) => Ok(Case { name: name.to_string(), entries: map }),
            _ => Err(format!("a case is a map with a :name, not {map:?}")),
        }
    }
    /// What stands under a key; nil counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(&Value::keyword(key)).filter(|v| **v != Value::Nil)
    }
    /// What stands under a key, nil included.
    pub fn get_even_nil(&self, key: &str) -> Option<&Value> {
        self.entries.get(&Value::keyword(key))
    }
    /// Is there a `true` under the key?
    pub fn is(&self, key: &str) -> bool {
        self.get(key) == Some(&Value::Bool(true))
    }
    /// The elements of a vector under a key; none if the key is absent.
    pub fn list(&self, key: &str) -> &[Value] {
        self.get(key).and_then(items).unwrap_or(&[])
    }
}

/// The elements of a sequence.
pub fn items(v: &Value) -> Option<&[Value]> {
    match v {
        Value::Vector(v) | Value::List(v) | Value::Set(v) => Some(v),
        _ => None,
    }
}

/// Reads the cases of a text: one vector of cases, or one case after another.
pub fn read(text: &str) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for value in read_values(text)? {
        match &value {
            Value::Map(_) => cases.push(Case::new(value)?),
            _ => match items(&value) {
                Some(several) => {
                    for v in several {
                        cases.push(Case::new(v.clone())?);
                    }
                }
                None => return Err(format!("neither a case nor a vector of cases: {value:?}")),
            },
        }
    }
    Ok(cases)
}

/// Cases, and the files that could not be read with the reason.
pub type Read = (Vec<Case>, Vec<(String, String)>);

/// Reads the `.edn` files of a folder, in order of name.
pub fn read_folder(folder: &Path) -> io::Result<Read> {
    let mut paths: Vec<_> = fs::read_dir(folder)?.flatten().map(|e| e.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "edn" || e == "ednl"));
    paths.sort();
    let (mut cases, mut broken) = (Vec::new(), Vec::new());
    for path in paths {
        match fs::read_to_string(&path).map_err(|e| e.to_string()).and_then(|text| read(&text)) {
            Ok(read) => cases.extend(read),
            Err(why) => broken.push((path.display().to_string(), why)),
        }
    }
    Ok((cases, broken))
}

/// Every EDN value of a text.
pub fn read_values(text: &str) -> Result<Vec<Value>, String> {
    match annals_query::edn::read_all(text) {
        Ok(forms) => Ok(forms.iter().map(|f| f.to_value()).collect()),
        Err(errors) => Err(format!("{errors:?}")),
    }
}
