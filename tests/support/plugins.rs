//! Plugins, installed as an installer would: where nobody else can change them.

use std::fs::{self, Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::project;

/// Copies `plugins/NAME` into `folder`, whatever modes the working copy has.
pub fn install(folder: &Path, name: &str) -> PathBuf {
    let target = folder.join(name);
    copy(&project().join("plugins").join(name), &target);
    target
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir(to).unwrap();
        set_permissions(to, Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
        return;
    }
    fs::copy(from, to).unwrap();
    let mode = fs::metadata(from).unwrap().permissions().mode();
    set_permissions(to, Permissions::from_mode(if mode & 0o100 == 0 { 0o644 } else { 0o755 })).unwrap();
}

/// Makes a plugin of `tests/peers/hostile_plugin.py`, in the way that `mode` names.
pub fn hostile(folder: &Path, mode: &str) -> PathBuf {
    let target = folder.join(mode);
    fs::create_dir(&target).unwrap();
    set_permissions(&target, Permissions::from_mode(0o755)).unwrap();
    copy(&project().join("tests/peers/hostile_plugin.py"), &target.join("program"));
    let manifest = target.join("plugin.toml");
    fs::write(&manifest, format!("name = \"{mode}\"\napi = 1\ncommand = [\"./program\", \"{mode}\"]\n"))
        .unwrap();
    set_permissions(&manifest, Permissions::from_mode(0o644)).unwrap();
    target
}

/// A link with the plugin in `folder`, and a device of the same name with a point `v`; these lines in the link.
pub fn plugin_device(folder: &Path, more: &str) -> String {
    let name = folder.file_name().unwrap().to_str().unwrap();
    format!(
        "[links.{name}]\ndriver = \"plugin:{name}\"\nfolder = \"{}\"\n{more}\n\
         [devices.{name}]\nlink = \"{name}\"\npoll_interval = \"100ms\"\n\
         points.v = {{ address = \"v\", type = \"u16\", writable = true }}\n",
        folder.display()
    )
}
