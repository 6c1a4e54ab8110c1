//! Prints the schema: `cargo run -p schema --example sdl`.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

fn main() {
    print!("{}", schema::sdl());
}
