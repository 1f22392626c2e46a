//! Answers as text: data formats, tables, charts.

pub mod chart;
pub mod table;
