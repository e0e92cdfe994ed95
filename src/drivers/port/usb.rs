//! The terminal of a USB adapter, by what the adapter calls itself.
//!
//! The kernel links each terminal in `/sys/class/tty/NAME/device` to the device it belongs to; some levels above
//! stands the adapter with `idVendor`, `idProduct` and, if it has one, `serial`.

use std::fs;
use std::path::{Path, PathBuf};

use super::Ports;
use crate::config::UsbId;

/// From a terminal up to its adapter: the port, its interface, the adapter.
const LEVELS: usize = 4;

/// Most adapters that an error lists.
const LISTED: usize = 8;

/// Why there is no one terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FindError {
    #[error("adapter missing: no port of usb {id} is plugged in; {others}")]
    Missing { id: UsbId, others: String },
    #[error(
        "usb {id} is several ports: {found}; name one by its serial number, or by a path in /dev/serial/by-path"
    )]
    Several { id: UsbId, found: String },
}

/// The node of the only terminal whose adapter has this id.
pub(super) fn find(ports: &Ports, id: &UsbId) -> Result<PathBuf, FindError> {
    let all = list(&ports.sysfs);
    let is_wanted = |found: &UsbId| {
        (found.vendor, found.product) == (id.vendor, id.product)
            && (id.serial.is_none() || id.serial == found.serial)
    };
    let found: Vec<&(String, UsbId)> = all.iter().filter(|(_, found)| is_wanted(found)).collect();
    match found.as_slice() {
        [(name, _)] => Ok(ports.dev.join(name)),
        [] => {
            let others = match show(&all.iter().collect::<Vec<_>>()) {
                none if none.is_empty() => "no other USB adapter is there either".to_owned(),
                others => format!("there are {others}"),
            };
            Err(FindError::Missing { id: id.clone(), others })
        }
        several => Err(FindError::Several { id: id.clone(), found: show(several) }),
    }
}

fn show(found: &[&(String, UsbId)]) -> String {
    let all: Vec<String> = found.iter().take(LISTED).map(|(name, id)| format!("{name} ({id})")).collect();
    all.join(", ")
}

/// Every terminal of a USB adapter, by name.
fn list(sysfs: &Path) -> Vec<(String, UsbId)> {
    let terminals = fs::read_dir(sysfs.join("class/tty")).into_iter().flatten().flatten();
    let mut found: Vec<_> = terminals
        .filter_map(|terminal| {
            let device = fs::canonicalize(terminal.path().join("device")).ok()?;
            let id = device.ancestors().take(LEVELS).find_map(adapter)?;
            // A slash in the name of a node is written so.
            Some((terminal.file_name().to_str()?.replace('!', "/"), id))
        })
        .collect();
    found.sort_by(|(first, _), (second, _)| first.cmp(second));
    found
}

fn adapter(folder: &Path) -> Option<UsbId> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok().map(|text| text.trim().to_owned());
    let mut id = UsbId::parse(&format!("{}:{}", text("idVendor")?, text("idProduct")?))?;
    id.serial = text("serial").filter(|serial| !serial.is_empty());
    Some(id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree as the kernel shows it.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(tree.path("sys/class/tty")).unwrap();
            // A port of the board: its device is no USB device.
            fs::create_dir_all(tree.path("sys/devices/platform/serial8250/tty/ttyS0")).unwrap();
            symlink("../..", tree.path("sys/devices/platform/serial8250/tty/ttyS0/device")).unwrap();
            symlink("../../devices/platform/serial8250/tty/ttyS0", tree.path("sys/class/tty/ttyS0")).unwrap();
            // One without any device.
            fs::create_dir_all(tree.path("sys/devices/virtual/tty/tty0")).unwrap();
            symlink("../../devices/virtual/tty/tty0", tree.path("sys/class/tty/tty0")).unwrap();
            tree
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn ports(&self) -> Ports {
            Ports { sysfs: self.path("sys"), dev: "/dev".into() }
        }

        /// A terminal on interface `interface` of an adapter at a place of the bus.
        fn plug(&self, place: &str, interface: u8, name: &str, id: &str) {
            let bus = "sys/devices/pci0000:00/0000:00:14.0/usb1";
            let usb = format!("{bus}/{place}");
            let id = UsbId::parse(id).unwrap();
            fs::create_dir_all(self.path(&usb)).unwrap();
            // The hub above it is a USB device as well.
            for (folder, vendor, product) in [(bus, 0x1d6b, 2), (&usb, id.vendor, id.product)] {
                fs::write(self.path(&format!("{folder}/idVendor")), format!("{vendor:04x}\n")).unwrap();
                fs::write(self.path(&format!("{folder}/idProduct")), format!("{product:04x}\n")).unwrap();
            }
            if let Some(serial) = &id.serial {
                fs::write(self.path(&format!("{usb}/serial")), format!("{serial}\n")).unwrap();
            }
            let interface = format!("{usb}/{place}:1.{interface}");
            // A modem's terminal hangs on the interface, an adapter's on a port of its own.
            let (terminal, device) = if name.starts_with("ttyACM") {
                (format!("{interface}/tty/{name}"), "../..")
            } else {
                (format!("{interface}/{name}/tty/{name}"), "../..")
            };
            fs::create_dir_all(self.path(&terminal)).unwrap();
            symlink(device, self.path(&format!("{terminal}/device"))).unwrap();
            let link = format!("../../{}", terminal.strip_prefix("sys/").unwrap());
            symlink(link, self.path(&format!("sys/class/tty/{name}"))).unwrap();
        }

        fn unplug(&self, name: &str) {
            fs::remove_file(self.path(&format!("sys/class/tty/{name}"))).unwrap();
        }
    }

    fn id(text: &str) -> UsbId {
        UsbId::parse(text).unwrap()
    }

    #[test]
    fn the_terminal_of_an_adapter_is_found_under_any_name() {
        let tree = Tree::new();
        tree.plug("1-1", 0, "ttyUSB0", "0403:6001:A1");
        tree.plug("1-2", 0, "ttyUSB1", "0403:6001:B2");
        tree.plug("1-3", 0, "ttyACM0", "2341:0043");
        let found = |text: &str| find(&tree.ports(), &id(text));
        assert_eq!(found("0403:6001:B2"), Ok("/dev/ttyUSB1".into()));
        assert_eq!(found("2341:0043"), Ok("/dev/ttyACM0".into()));
        assert_eq!(found("1d6b:0002").unwrap_err().to_string().split(':').next(), Some("adapter missing"));
        let several = found("0403:6001").unwrap_err().to_string();
        assert!(several.contains("ttyUSB0 (0403:6001:A1), ttyUSB1 (0403:6001:B2)"), "{several}");
        // Unplugged and plugged in again: another name.
        tree.unplug("ttyUSB1");
        let missing = found("0403:6001:B2").unwrap_err().to_string();
        assert!(missing.starts_with("adapter missing: no port of usb 0403:6001:B2"), "{missing}");
        assert!(missing.contains("ttyUSB0 (0403:6001:A1)") && missing.contains("ttyACM0"), "{missing}");
        assert_eq!(found("0403:6001"), Ok("/dev/ttyUSB0".into()));
        tree.plug("1-4", 0, "ttyUSB7", "0403:6001:B2");
        assert_eq!(found("0403:6001:B2"), Ok("/dev/ttyUSB7".into()));
    }

    #[test]
    fn two_ports_of_one_adapter_are_told_apart_by_path_only() {
        let tree = Tree::new();
        tree.plug("1-1", 0, "ttyUSB0", "0403:6010:A1");
        tree.plug("1-1", 1, "ttyUSB1", "0403:6010:A1");
        let several = find(&tree.ports(), &id("0403:6010:A1")).unwrap_err();
        assert!(matches!(&several, FindError::Several { .. }), "{several}");
        let none = find(&Ports { sysfs: "/nonexistent".into(), ..Ports::default() }, &id("0403:6010"));
        assert!(none.unwrap_err().to_string().contains("no other USB adapter"));
    }
}
