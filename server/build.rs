//! Owns: telling cargo what the binary embeds besides Rust. A changed migration must rebuild it.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
