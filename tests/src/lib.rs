//! The simulator, and the suites that run on it.

pub mod faulty;
pub mod lab;
pub mod power_loss;
pub mod script;
