//! What crosses the wire: shapes and their conversions to and from the facade's
//! types. Neither axum nor tokio is named in here, so a client can share it.

pub mod event;
pub mod problem;
pub mod rows;
pub mod tree;
pub mod tx;
pub mod value;
