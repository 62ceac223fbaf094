//! Finds libyololoss.so by pkg-config.
use std::process::Command;

fn main() {
    let out = Command::new("pkg-config")
        .args(["--libs-only-L", "yololoss"])
        .output()
        .expect("pkg-config is needed to find libyololoss");
    assert!(
        out.status.success(),
        "pkg-config does not know yololoss; set PKG_CONFIG_PATH to the lib/pkgconfig of its install: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    for folder in String::from_utf8_lossy(&out.stdout).split_whitespace() {
        let folder = folder.trim_start_matches("-L");
        println!("cargo:rustc-link-search=native={folder}");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
    println!("cargo:rustc-link-lib=dylib=yololoss");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
}
