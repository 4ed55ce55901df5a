//! Commands on mounts.

use super::writing::done;
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs;
use crate::session::Session;

const MOUNTABLE: Param = Param::required("mountable", Kind::Mountable);
const EXEMPTPATH: Param = Param::required("exemptpath", Kind::Path);
const MOUNTPOINT: Param = Param::required("mountpoint", Kind::Path);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "mkmountpoint",
        aliases: &[],
        summary: "make a mount point outside of any file system",
        help: "With nothing mounted, EXEMPTPATH becomes a directory of an empty root that is kept in memory, so that several \
               systems can be mounted side by side: /a, /b. `umount-all` removes the root.",
        params: &[EXEMPTPATH],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "umount-all\nmkmountpoint /a\nmount /dev/sda2 /a\nls /a\n",
            output: "lost+found\n",
        }],
        run: |cx, args| done(cx.launched()?.make_mountpoint(&args.path("exemptpath"))),
    },
    Command {
        name: "mount",
        aliases: &[],
        summary: "mount a file system",
        help: "The first one goes on `/`; others on directories that exist.",
        params: &[MOUNTABLE, MOUNTPOINT],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "mkdir-p /boot/efi\nmount /dev/sda1 /boot/efi\nmounts\n",
            output: "/dev/sda2\n/dev/sda1\n",
        }],
        run: |cx, args| mount(cx, args, false),
    },
    Command {
        name: "mount-options",
        aliases: &[],
        summary: "mount a file system with options",
        help: "OPTIONS are words with commas between; `ro` makes the mount read-only, the others have no effect.",
        params: &[Param::required("options", Kind::Text), MOUNTABLE, MOUNTPOINT],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "umount-all\nmount-options noatime /dev/sda1 /\nmountpoints\n",
            output: "/dev/sda1: /\n",
        }],
        run: |cx, args| {
            let read_only = args.text("options").split(',').any(|word| word == "ro");
            mount(cx, args, read_only)
        },
    },
    Command {
        name: "mount-ro",
        aliases: &[],
        summary: "mount a file system read-only",
        help: "",
        params: &[MOUNTABLE, MOUNTPOINT],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "umount /\nmount-ro /dev/sda1 /\n-touch /f\nls /\n",
            output: "lost+found\n",
        }],
        run: |cx, args| mount(cx, args, true),
    },
    Command {
        name: "mount-vfs",
        aliases: &[],
        summary: "mount a file system with options and a type",
        help: "As `mount-options`; a device that holds another type of file system is refused. An empty type is any.",
        params: &[
            Param::required("options", Kind::Text),
            Param::required("vfstype", Kind::Text),
            MOUNTABLE,
            MOUNTPOINT,
        ],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "umount-all\nmount-vfs ro ext4 /dev/sda1 /\nmountpoints\n",
            output: "/dev/sda1: /\n",
        }],
        run: mount_vfs,
    },
    Command {
        name: "mountable-device",
        aliases: &[],
        summary: "the device of a mountable",
        help: "The device itself, or the one that `btrfsvol:DEVICE/SUBVOLUME` names.",
        params: &[MOUNTABLE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mountable-device btrfsvol:/dev/sda1/home\n",
            output: "/dev/sda1\n",
        }],
        run: |cx, args| {
            let mountable = args.text("mountable");
            Ok(Value::text(match cx.session.split_subvolume(&mountable) {
                Some((device, _)) => device,
                None => cx.session.canonical(&mountable)?,
            }))
        },
    },
    Command {
        name: "mountable-subvolume",
        aliases: &[],
        summary: "the subvolume of a mountable",
        help: "An error for a device.",
        params: &[MOUNTABLE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mountable-subvolume btrfsvol:/dev/sda1/home\n",
            output: "home\n",
        }],
        run: |cx, args| {
            let mountable = args.text("mountable");
            match cx.session.split_subvolume(&mountable) {
                Some((_, subvolume)) => Ok(Value::text(subvolume)),
                None => Err(Error::new(ErrorKind::Invalid, "this is no subvolume").at(mountable)),
            }
        },
    },
    Command {
        name: "mountpoints",
        aliases: &[],
        summary: "mounted devices and where they are mounted",
        help: "",
        params: &[],
        returns: Returns::Hash,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EspAndExt4, lines: "mountpoints\n", output: "/dev/sda2: /\n" }],
        run: |cx, _| {
            let mounts = cx.session.guest.mounts().iter().filter(|m| !Session::is_memory_root(&m.device));
            Ok(Value::Hash(mounts.map(|m| (m.device.clone().into_bytes(), m.mountpoint.0.clone())).collect()))
        },
    },
    Command {
        name: "mounts",
        aliases: &[],
        summary: "mounted devices",
        help: "In the order in which they were mounted.",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "mounts\n", output: "/dev/sda1\n" }],
        run: |cx, _| {
            let mounts = cx.session.guest.mounts().iter().filter(|m| !Session::is_memory_root(&m.device));
            Ok(Value::list(mounts.map(|m| m.device.clone())))
        },
    },
    Command {
        name: "remount",
        aliases: &[],
        summary: "make a mount read-only or writable",
        help: "`rw:false` makes it read-only, `rw:true` (the default) writable, unless the disk cannot be written.",
        params: &[MOUNTPOINT, Param::optional("rw", Kind::Bool)],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "remount / rw:false\n-touch /f\nremount / rw:true\ntouch /g\nls /\n",
            output: "g\nlost+found\n",
        }],
        run: |cx, args| {
            let writable = args.get("rw").is_none() || args.bool("rw");
            done(cx.launched()?.remount(&args.path("mountpoint"), writable))
        },
    },
    Command {
        name: "rmmountpoint",
        aliases: &[],
        summary: "remove a mount point that mkmountpoint made",
        help: "",
        params: &[EXEMPTPATH],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "umount-all\nmkmountpoint /a\nrmmountpoint /a\nmounts\n",
            output: "",
        }],
        run: |cx, args| done(cx.launched()?.remove_mountpoint(&args.path("exemptpath"))),
    },
    Command {
        name: "umount",
        aliases: &["unmount", "umount-opts"],
        summary: "unmount a file system",
        help: "By mount point or device. `force` and `lazyunmount` are read and have no effect: nothing in imgsh keeps a \
               file system busy but another one mounted in it.",
        params: &[
            Param::required("pathordevice", Kind::DeviceOrPath),
            Param::optional("force", Kind::Bool),
            Param::optional("lazyunmount", Kind::Bool),
        ],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example { setup: Setup::Ext4, lines: "umount /\nmounts\n", output: "" }],
        run: |cx, args| {
            let what = args.text("pathordevice");
            done(cx.launched()?.guest.umount(&what))
        },
    },
    Command {
        name: "umount-all",
        aliases: &["unmount-all"],
        summary: "unmount all file systems",
        help: "",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example { setup: Setup::Ext4, lines: "umount-all\nmounts\n", output: "" }],
        run: |cx, _| done(cx.launched()?.guest.umount_all()),
    },
];

fn mount(cx: &mut Context, args: &Args, read_only: bool) -> Result<Value> {
    let mountpoint: GuestPathBuf = args.path("mountpoint");
    done(cx.launched()?.mount(&args.text("mountable"), &mountpoint, read_only))
}

fn mount_vfs(cx: &mut Context, args: &Args) -> Result<Value> {
    let (wanted, device) = (args.text("vfstype"), args.text("mountable"));
    let read_only = args.text("options").split(',').any(|word| word == "ro");
    if wanted.is_empty() {
        return mount(cx, args, read_only);
    }
    let found = cx.launched()?.identify(&device)?.map(|i| i.fs_type).unwrap_or_default();
    let names = fs::DRIVERS.iter().map(|driver| driver.names).find(|names| names.contains(&wanted.as_str()));
    match names {
        None => return Err(Error::unsupported(format!("file systems of type {wanted} cannot be mounted"))),
        Some(names) if !names.contains(&found.as_str()) => {
            let found = if found.is_empty() { "nothing known" } else { found.as_str() };
            return Err(Error::new(ErrorKind::Invalid, format!("there is {found} on it, not {wanted}")).at(device));
        }
        Some(_) => {}
    }
    mount(cx, args, read_only)
}
