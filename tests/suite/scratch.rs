use crate::fixture::*;
#[test]
fn parts() {
    let git = GitHttps::start("deploy", "tok");
    let out = std::process::Command::new("curl")
        .args(["-sv", "-u", "deploy:tok", "--cacert"])
        .arg(git.ca_file())
        .arg(format!("{}/info/refs?service=git-upload-pack", git.url()))
        .output()
        .unwrap();
    println!(
        "{}\n{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    let out = std::process::Command::new("git")
        .args(["ls-remote"])
        .arg(git.url().replace("https://", "https://deploy:tok@"))
        .env("GIT_SSL_CAINFO", git.ca_file())
        .output()
        .unwrap();
    println!(
        "{}\n{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    panic!("show");
}
