//! What `cairn-bench` is made of: redis-benchmark cells, a paced load generator
//! with latency histograms, and the report.

pub mod cells;
pub mod collections;
pub mod paced;
pub mod report;
