//! The command line as a whole: its help, its settings, the queries that it sends.

mod documents;
mod help;
mod precedence;
mod settings_guide;
