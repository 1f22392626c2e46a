//! Values as bytes that sort like the values.
