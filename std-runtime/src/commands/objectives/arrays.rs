//! Arrays of an input file: lists of numbers, or lists of rows.

use std::collections::BTreeMap;

use samara_core::rl::Mask;
use serde_json::Value;

use super::entry::Entry;
use crate::config::hint;

/// An array of one or two dimensions.
#[derive(Debug)]
pub(super) struct Array {
    /// Its values, row by row; NaN where JSON has null.
    pub(super) values: Vec<f64>,
    /// Elements of a row; all of them of a plain list.
    pub(super) row: usize,
    /// Whether it was a list of rows.
    pub(super) nested: bool,
}

/// The arrays of an evaluation.
pub(super) struct Arrays(BTreeMap<String, Array>);

/// A value as a number: true is 1, null is NaN.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Null => Some(f64::NAN),
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        value => value.as_f64(),
    }
}

/// The kind of a JSON value, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A list of numbers.
fn list(name: &str, values: &[Value]) -> Result<Vec<f64>, String> {
    let numbers = values.iter().enumerate().map(|(i, value)| {
        number(value).ok_or_else(|| format!("{name}: element {i} (from 0): expected a number, found {}", kind(value)))
    });
    numbers.collect()
}

fn array(name: &str, value: &Value) -> Result<Array, String> {
    let Some(values) = value.as_array() else {
        // A bare number is a list of one: KTO's reference point.
        let single = number(value).filter(|x| x.is_finite());
        return match single {
            Some(x) => Ok(Array { values: vec![x], row: 1, nested: false }),
            None => Err(format!("{name}: expected a list of numbers, found {}", kind(value))),
        };
    };
    if !values.iter().any(Value::is_array) {
        let values = list(name, values)?;
        let row = values.len();
        return Ok(Array { values, row, nested: false });
    }
    let (mut all, mut row) = (Vec::new(), None);
    for (i, value) in values.iter().enumerate() {
        let Some(of_row) = value.as_array() else {
            return Err(format!("{name}: row {i} (from 0): expected a list of numbers, found {}", kind(value)));
        };
        let expected = *row.get_or_insert(of_row.len());
        if of_row.len() != expected {
            return Err(format!(
                "{name}: row {i} (from 0): expected {expected} elements, found {}; pad it, and mask the padding",
                of_row.len()
            ));
        }
        all.extend(list(&format!("{name}: row {i}"), of_row)?);
    }
    Ok(Array { values: all, row: row.unwrap_or(0), nested: true })
}

impl Arrays {
    /// Reads the arrays of an objective.
    ///
    /// # Errors
    /// The input is not an object of arrays, has an array that the objective does not take, or lacks a required one.
    pub(super) fn read(entry: &Entry, input: Value) -> Result<Self, String> {
        let Value::Object(input) = input else {
            return Err(format!("expected an object of arrays, found {}; {}", kind(&input), entry.takes()));
        };
        let mut arrays = BTreeMap::new();
        for (name, value) in &input {
            if !entry.inputs.iter().any(|input| input.name == name) {
                let nearest = hint(name, entry.inputs.iter().map(|input| input.name));
                let nearest = if nearest.starts_with("; did") { nearest } else { String::new() };
                return Err(format!("unknown array `{name}`{nearest}; {}", entry.takes()));
            }
            arrays.insert(name.clone(), array(name, value)?);
        }
        match entry.inputs.iter().find(|input| input.required && !arrays.contains_key(input.name)) {
            Some(missing) => Err(format!("no array `{}`; {}", missing.name, entry.takes())),
            None => Ok(Self(arrays)),
        }
    }

    /// Whether an element is missing (null): results of its row may be missing as well.
    pub(super) fn has_missing(&self) -> bool {
        self.0.values().flat_map(|array| &array.values).any(|x| x.is_nan())
    }

    /// An array, if it is present.
    pub(super) fn get(&self, name: &str) -> Option<&Array> {
        self.0.get(name)
    }

    /// An array of finite numbers; empty if it is optional and absent.
    ///
    /// # Errors
    /// Elements that are not finite.
    pub(super) fn finite(&self, name: &str) -> Result<&[f64], String> {
        let Some(array) = self.get(name) else { return Ok(&[]) };
        match array.values.iter().position(|x| !x.is_finite()) {
            Some(i) => Err(format!("{name}: element {i} (from 0): expected a finite number, found {}", array.values[i])),
            None => Ok(&array.values),
        }
    }

    /// Integers of at least 0.
    ///
    /// # Errors
    /// Other elements.
    pub(super) fn counts<N: TryFrom<u64>>(&self, name: &str) -> Result<Vec<N>, String> {
        let whole = |(i, &x): (usize, &f64)| {
            let exact = Some(x as u64).filter(|&n| n as f64 == x).and_then(|n| N::try_from(n).ok());
            exact.ok_or_else(|| format!("{name}: element {i} (from 0): expected a whole number from 0, found {x}"))
        };
        self.finite(name)?.iter().enumerate().map(whole).collect()
    }

    /// 1 or true, 0 or false.
    ///
    /// # Errors
    /// Others.
    pub(super) fn truths(&self, name: &str) -> Result<Vec<bool>, String> {
        let truth = |(i, &x): (usize, &f64)| match x {
            1.0 => Ok(true),
            0.0 => Ok(false),
            x => Err(format!("{name}: element {i} (from 0): expected true or false, found {x}")),
        };
        self.finite(name)?.iter().enumerate().map(truth).collect()
    }

    /// The token mask: the array `mask`, or all true. In the row layout of `like`.
    ///
    /// # Errors
    /// A mask of values other than true and false.
    pub(super) fn live(&self, like: &str) -> Result<(Vec<bool>, usize), String> {
        let array = self.get(like).or_else(|| self.get("mask"));
        let (len, row) = array.map_or((0, 0), |array| (array.values.len(), array.row));
        if self.get("mask").is_none() {
            return Ok((vec![true; len], row));
        }
        let live = self.truths("mask")?;
        if live.len() == len {
            Ok((live, row))
        } else {
            Err(format!("mask: expected {len} elements as {like} has, found {}", live.len()))
        }
    }

    /// Values in the form of an array: rows if it had rows.
    pub(super) fn shaped(&self, like: &str, values: &[f64]) -> Value {
        match self.get(like) {
            Some(array) if array.nested => values.chunks(array.row.max(1)).map(Value::from).collect(),
            _ => values.into(),
        }
    }
}

/// A mask of rows.
///
/// # Errors
/// A mask without a true element.
pub(super) fn mask_of(live: &(Vec<bool>, usize)) -> Result<Mask<'_>, samara_core::rl::Error> {
    Mask::new(&live.0, live.1)
}
