//! Commands of guestfish that cannot exist without a virtual machine, or do not exist yet: what to do instead.
//!
//! They are not in the table of commands: nothing that is listed does nothing.

/// Commands that are refused for one reason.
pub struct Refusal {
    /// Full names, or with a `*` at the end all that begin so.
    names: &'static [&'static str],
    /// Why.
    pub reason: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

const fn refuse(names: &'static [&'static str], reason: &'static str, instead: &'static str) -> Refusal {
    Refusal { names, reason, instead }
}

const REFUSALS: &[Refusal] = &[
    refuse(
        &["command", "command-lines", "command-out", "sh", "sh-lines", "sh-out"],
        "programs of the guest cannot run: imgsh starts no virtual machine",
        "use firstboot to run a script at the guest's next start, or a command that changes the files: set-password, \
         add-user, ssh-inject, set-hostname, set-timezone, enable-unit, append-line, replace; 'help --list' shows all",
    ),
    refuse(
        &["rsync", "rsync-in", "rsync-out"],
        "rsync would have to run in a virtual machine",
        "use copy-in, copy-out, tar-in or tar-out",
    ),
    refuse(
        &["aug-*"],
        "augeas is not built in",
        "use edit with $EDITOR, replace or append-line; Rhai scripts read and write files with cat and write",
    ),
    refuse(
        &["hivex-*"],
        "Windows registries are not read or written",
        "download the hive, change it on the host (hivexsh, hivexregedit) and upload it",
    ),
    refuse(
        &["btrfs-*", "btrfstune-*", "mkfs-btrfs"],
        "btrfs is read and not written",
        "list-filesystems and btrfs-subvolume-list show the subvolumes; mount btrfsvol:DEVICE/PATH",
    ),
    refuse(
        &["xfs-admin", "xfs-growfs", "xfs-info2", "xfs-repair"],
        "XFS is read and not changed",
        "mount it to read; xfs-info tells its geometry, vfs-label and vfs-uuid what it is called",
    ),
    refuse(
        &[
            "ntfs-3g-probe",
            "ntfs-chmod",
            "ntfscat-i",
            "ntfsclone-in",
            "ntfsclone-out",
            "ntfsfix",
            "ntfsresize",
            "ntfsresize-size",
        ],
        "NTFS cannot be opened yet",
        "download the partition and use ntfs-3g's programs on the host",
    ),
    refuse(
        &["f2fs-expand", "mksquashfs"],
        "this file system cannot be made or changed",
        "use tar-out and the file system's own program on the host",
    ),
    refuse(
        &["luks-add-key", "luks-format", "luks-format-cipher", "luks-kill-slot"],
        "headers of encrypted volumes are not written",
        "use cryptsetup on the host: luksFormat, luksAddKey and luksKillSlot work on image files",
    ),
    refuse(
        &["clevis-luks-unlock"],
        "clevis asks servers on the network for a key",
        "give the passphrase itself: cryptsetup-open",
    ),
    refuse(
        &["md-*"],
        "software RAID is not assembled",
        "work on an image of the whole array; members show as linux_raid_member in vfs-type",
    ),
    refuse(&["ldmtool-*"], "Windows dynamic disks are not assembled", "convert them to basic disks"),
    refuse(
        &["inotify-*"],
        "there is no kernel that could watch files",
        "changes shows what this session changed; compare two states with find and checksums-out",
    ),
    refuse(
        &["journal-*"],
        "systemd journals are not read",
        "copy-out /var/log/journal and read it with journalctl --directory",
    ),
    refuse(&["yara-*"], "YARA is not built in", "copy-out the files and scan them on the host"),
    refuse(
        &["download-blocks", "download-inode", "filesystem-walk", "find-inode"],
        "deleted and unlinked data is not looked for",
        "download the device and use The Sleuth Kit on the host; find, stat and download show what is there",
    ),
    refuse(
        &["mount-local", "mount-local-run", "umount-local", "mount-9p", "list-9p", "mount-loop"],
        "kernel mounts are not made",
        "use the commands on paths, copy-out, or attach the image itself with add-drive",
    ),
    refuse(
        &["extlinux", "syslinux", "grub-install"],
        "boot loaders are not installed",
        "use firstboot to run the guest's own installer, or upload the loader's files and pwrite-device its boot sector",
    ),
    refuse(
        &["sfdisk", "sfdisk-n", "sfdiskm", "sfdisk-disk-geometry", "sfdisk-kernel-geometry", "sfdisk-l"],
        "sfdisk is not run, and cylinders are no longer used",
        "use part-list, part-init, part-add, part-disk, part-resize",
    ),
    refuse(
        &["setcon", "getcon"],
        "there is no process whose SELinux context could be set",
        "labels of files: getxattr and setxattr with security.selinux, selinux-relabel",
    ),
    refuse(
        &["add-domain", "get-libvirt-*", "set-libvirt-*"],
        "libvirt is not used",
        "add the guest's disk images with add-drive; virsh domblklist names them",
    ),
    refuse(&["remove-drive"], "drives cannot be taken away", "use reopen and add the drives that are wanted"),
    refuse(
        &["config", "debug", "debug-upload", "dmesg", "utsname", "get-pid", "c-pointer", "internal-exit"],
        "this is a question to guestfish's virtual machine, and there is none",
        "leave it out",
    ),
    refuse(
        &["inspect-get-icon"],
        "pictures are not looked for",
        "download the picture from the guest, for example /usr/share/pixmaps",
    ),
];

/// Why a command of guestfish's is refused; `None` for a name that guestfish does not have either.
pub fn refusal(name: &str) -> Option<&'static Refusal> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start) && name.len() > start.len(),
        None => *pattern == name,
    };
    REFUSALS.iter().find(|refusal| refusal.names.iter().any(&fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_families() {
        assert!(refusal("sh").unwrap().instead.contains("firstboot"));
        assert!(refusal("AUG_GET").is_some() && refusal("hivex-open").is_some());
        assert!(refusal("aug-").is_none() && refusal("bogus").is_none());
    }
}
