//! Raw data to values and back. Pure.

use crate::point::{Point, Raw, Reason, Value};

/// Why a value cannot be written to a point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The value is of another type than the point.
    #[error("{0}")]
    WrongType(String),
    /// The value does not fit the point.
    #[error("{0}")]
    OutOfRange(String),
}

/// Reads the raw data of a point.
pub fn decode(point: &Point, raw: &Raw) -> Result<Value, Reason> {
    unimplemented!("{point:?} {raw:?}")
}

/// Makes the raw data that `value` stands for, after checking type, range and limits.
pub fn encode(point: &Point, value: &Value) -> Result<Raw, EncodeError> {
    unimplemented!("{point:?} {value:?}")
}
