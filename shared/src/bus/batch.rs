//! Collecting what is due for one address into one message.
