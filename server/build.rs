//! Owns: telling cargo what the binary embeds besides Rust. A changed migration or web app must rebuild it. Where the web app was
//! not built yet, cargo looks every time: a binary without it must not stay.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
    println!("cargo:rerun-if-changed=../clients/web/dist");
}
