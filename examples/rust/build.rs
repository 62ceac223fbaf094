//! Finds libyololoss.so and the Rust form of its structs, which is installed with it, by pkg-config.
use std::process::Command;

fn pkg_config(question: &str) -> String {
    let out = Command::new("pkg-config")
        .args([question, "yololoss"])
        .output()
        .expect("pkg-config is needed to find libyololoss");
    assert!(
        out.status.success(),
        "pkg-config does not know yololoss; set PKG_CONFIG_PATH to the lib/pkgconfig of its install: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).trim().to_string()
}

fn main() {
    for folder in pkg_config("--libs-only-L").split_whitespace() {
        let folder = folder.trim_start_matches("-L");
        println!("cargo:rustc-link-search=native={folder}");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
    println!("cargo:rustc-link-lib=dylib=yololoss");
    let structs = pkg_config("--variable=abidir") + "/yololoss_abi.rs";
    println!("cargo:rustc-env=YOLOLOSS_ABI={structs}");
    println!("cargo:rerun-if-changed={structs}");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
}
