//! Who could change a program that the gateway runs: only root and the user it runs as may.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Why a plugin is not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnershipError {
    /// It is not there, or nobody lets us look.
    #[error("{0} cannot be looked at: {1}")]
    Missing(PathBuf, String),
    /// Somebody else owns it.
    #[error("{0} belongs to the user with the number {1}, not to root or to the user who runs fieldgate")]
    Owner(PathBuf, u32),
    /// Somebody else may write it.
    #[error("{0} can be written by its group or by others")]
    Writable(PathBuf),
}

/// Checks a file or folder without links in its path, and every folder above it: who can rename one of these can
/// put another in its place. In a folder like `/tmp`, which is sticky, nobody can rename what is another's.
pub(super) fn check(path: &Path) -> Result<(), OwnershipError> {
    let own = rustix::process::geteuid().as_raw();
    for (height, path) in path.ancestors().enumerate() {
        let metadata = fs::metadata(path)
            .map_err(|error| OwnershipError::Missing(path.to_owned(), error.to_string()))?;
        if metadata.uid() != 0 && metadata.uid() != own {
            return Err(OwnershipError::Owner(path.to_owned(), metadata.uid()));
        }
        let is_sticky = height > 0 && metadata.mode() & 0o1000 != 0;
        if metadata.mode() & 0o022 != 0 && !is_sticky {
            return Err(OwnershipError::Writable(path.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_can_change_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().canonicalize().unwrap().join("plugin");
        fs::create_dir(&inner).unwrap();
        let program = inner.join("program");
        fs::write(&program, "").unwrap();
        let set = |path: &Path, mode| set_permissions(path, Permissions::from_mode(mode)).unwrap();
        set(&program, 0o755);
        set(&inner, 0o755);
        assert_eq!(check(&program), Ok(()));
        for mode in [0o775, 0o757, 0o777] {
            set(&program, mode);
            assert_eq!(check(&program), Err(OwnershipError::Writable(program.clone())));
            set(&program, 0o755);
            set(&inner, mode);
            assert_eq!(check(&program), Err(OwnershipError::Writable(inner.clone())));
            set(&inner, 0o755);
        }
        // Sticky helps what lies in a folder, not the folder that is asked for.
        set(&inner, 0o1777);
        assert_eq!(check(&program), Ok(()));
        assert_eq!(check(&inner), Err(OwnershipError::Writable(inner.clone())));
        assert!(matches!(check(&inner.join("no")), Err(OwnershipError::Missing(..))));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().canonicalize().unwrap().join("program");
        fs::write(&file, "").unwrap();
        // Only root can give a file away; whoever else runs this has one of somebody else's nowhere but in /proc.
        match std::os::unix::fs::chown(&file, Some(12345), None) {
            Ok(()) => assert_eq!(check(&file), Err(OwnershipError::Owner(file, 12345))),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
        }
    }
}
