//! How a command ended, and the reply that says so.

use serde_json::Value as Json;

use crate::clock::Moment;
use crate::point::{PointId, Value};
use crate::record::{self, Body};

/// The one outcome of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done; what the device says.
    Succeeded(Vec<(PointId, Value)>),
    /// It was sent to all, and nobody confirms that.
    Sent(Vec<(PointId, Value)>),
    /// The gateway's own answer.
    Answered(Json),
    /// It was tried on the link.
    Failed {
        /// The contract's code.
        code: String,
        /// For a person.
        message: String,
        /// What was done all the same.
        values: Vec<(PointId, Value)>,
    },
    /// It was judged before the link.
    Rejected {
        /// The contract's code.
        code: &'static str,
        /// For a person.
        message: String,
    },
    /// Its time was over before the device was asked.
    Expired(String),
}

impl Outcome {
    /// The word in the reply.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self {
            Self::Succeeded(_) | Self::Sent(_) | Self::Answered(_) => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Rejected { .. } => "rejected",
            Self::Expired(_) => "expired",
        }
    }

    /// The code in the reply, where there was no success.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Succeeded(_) | Self::Sent(_) | Self::Answered(_) => None,
            Self::Failed { code, .. } => Some(code),
            Self::Rejected { code, .. } => Some(code),
            Self::Expired(_) => Some("expired"),
        }
    }

    /// The members of the reply.
    #[must_use]
    pub fn body(&self, id: Option<&str>, device: Option<&str>, action: Option<&str>, made: Moment) -> Body {
        let mut body = Body::new();
        for (key, text) in [("id", id), ("device", device), ("action", action)] {
            if let Some(text) = text {
                body = body.with(key, text);
            }
        }
        body = body.with("status", self.status());
        let (error, values) = match self {
            Self::Succeeded(values) | Self::Sent(values) => (None, Some(values)),
            Self::Answered(json) => return body.with("values", json).with_time(made),
            Self::Failed { code, message, values } => {
                (Some((code.as_str(), message)), Some(values).filter(|values| !values.is_empty()))
            }
            Self::Rejected { code, message } => (Some((*code, message)), None),
            Self::Expired(message) => (Some(("expired", message)), None),
        };
        if let Some(values) = values {
            body = body.with_json("values", |out| {
                let members = values.iter().map(|(point, value)| (point.as_str(), value));
                record::object(out, members, |out, value| value.write_json(out));
            });
        }
        if matches!(self, Self::Sent(_)) {
            body = body.with("verified", &false);
        }
        if let Some((code, message)) = error {
            body = body.with("error", &serde_json::json!({ "code": code, "message": message }));
        }
        body.with_time(made)
    }
}
