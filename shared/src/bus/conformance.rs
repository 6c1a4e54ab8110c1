//! What every transport must do, as tests that each transport runs.
