//! Commands of our own on the guest's users: what useradd, passwd and ssh-copy-id do inside.

use std::io::Read;

use super::editing::replace_content;
use super::looking::look;
use super::reading::EDIT_LIMIT;
use super::writing::{NEW_DIRECTORY, done};
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result, crypt};
use crate::command::{Args, Command, Context, Effect, Example, HostFile, Kind, Param, Returns, Setup, Value};
use crate::fs::{NewKind, NewNode, SetAttributes};
use crate::guest::accounts::{Table, check_name, free_id};

const USER: Param = Param::required("user", Kind::Text);

/// The largest key file.
const KEY_LIMIT: u64 = 1 << 20;
const SECONDS_OF_DAY: i64 = 86_400;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "add-user",
        aliases: &[],
        summary: "add a user to the guest",
        help: "Adds the lines of /etc/passwd, /etc/shadow, /etc/group and /etc/gshadow, and makes the home directory from \
               /etc/skel. `uid` and `gid` are the next free ones if they are left out; without `gid` the user gets a group of \
               the same name. `groups` are further groups, `shell` is /bin/bash or else /bin/sh, `password` as set-password \
               takes it; without one nobody can log in by password.",
        params: &[
            USER,
            Param::optional("uid", Kind::Int),
            Param::optional("gid", Kind::Int),
            Param::optional("groups", Kind::List),
            Param::optional("home", Kind::Path),
            Param::optional("shell", Kind::Text),
            Param::optional("comment", Kind::Text),
            Param::optional("password", Kind::Text),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Debian,
            lines: "write /etc/passwd \"root:x:0:0::/root:/bin/sh\\n\"\nwrite /etc/group \"root:x:0:\\nsudo:x:27:\\n\"\n\
                    add-user joe groups:sudo\ntail-n 1 /etc/passwd\ngrep sudo /etc/group\nstat /home/joe | grep uid\n",
            output: "joe:x:1000:1000::/home/joe:/bin/sh\nsudo:x:27:joe\nuid: 1000\n",
        }],
        run: add_user,
    },
    Command {
        name: "set-password",
        aliases: &[],
        summary: "set the password of a user of the guest",
        help: "SELECTOR is `password:TEXT`, `file:HOSTFILE` (its first line), `hash:CRYPT` for a hash that is ready, `locked` \
               to keep the password and refuse it, or `disabled` to take it away. Passwords are kept as SHA-512 crypt in \
               /etc/shadow.",
        params: &[USER, Param::required("selector", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Debian,
            lines: "write /etc/passwd \"root:x:0:0::/root:/bin/sh\\n\"\nwrite /etc/shadow \"root:*:19000:0:99999:7:::\\n\"\n\
                    set-password root password:secret\ncat /etc/shadow | cut -c 1-8\n",
            output: "root:$6$\n\n",
        }],
        run: |cx, args| done(set_password(cx, &args.text("user"), &args.text("selector"))),
    },
    Command {
        name: "ssh-inject",
        aliases: &[],
        summary: "let a user of the guest log in with an SSH key",
        help: "Appends the public keys of KEYFILE to the user's ~/.ssh/authorized_keys, those that are there already left \
               out, with the owner and modes that sshd wants.",
        params: &[USER, Param::required("keyfile", Kind::FileIn)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Debian,
            lines: "write /etc/passwd \"root:x:0:0::/root:/bin/sh\\n\"\nssh-inject root -<<END\nssh-ed25519 AAAA me\nEND\n\
                    cat /root/.ssh/authorized_keys\nstat /root/.ssh | grep mode\n",
            output: "ssh-ed25519 AAAA me\n\nmode: 16832\n",
        }],
        run: ssh_inject,
    },
];

/// One of the account files; `None` if the guest has none.
fn table(cx: &Context, path: &str) -> Result<Option<(GuestPathBuf, Table)>> {
    let path = GuestPathBuf::from(path);
    match cx.session.guest.realpath(&path) {
        Ok(real) => {
            let table = Table::parse(&cx.session.guest.read_file(&real, EDIT_LIMIT)?);
            Ok(Some((real, table)))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn passwd(cx: &Context) -> Result<(GuestPathBuf, Table)> {
    table(cx, "/etc/passwd")?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "this guest has no users").at("/etc/passwd").hint("mount its root on /")
    })
}

fn no_user(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("the guest's /etc/passwd has no user '{name}'")).hint("add-user makes one")
}

/// The password field that a selector asks for; `None` keeps the old one, locked.
fn password_field(cx: &Context, selector: &str) -> Result<Option<String>> {
    let hash = |text: &[u8]| crypt::sha512_crypt(text, &cx.host.random());
    match selector.split_once(':').unwrap_or((selector, "")) {
        ("password", text) => Ok(Some(hash(text.as_bytes()))),
        ("file", path) => {
            let (reader, _) = cx.host.read(&HostFile::Path(path.into()))?;
            let mut text = Vec::new();
            reader.take(KEY_LIMIT).read_to_end(&mut text)?;
            Ok(Some(hash(text.split(|b| *b == b'\n').next().unwrap_or_default())))
        }
        ("hash", text) if !text.is_empty() && !text.contains([':', '\n']) => Ok(Some(text.to_string())),
        ("disabled", "") => Ok(Some("*".to_string())),
        ("locked", "") => Ok(None),
        _ => Err(Error::usage("the selector is none of password:TEXT, file:HOSTFILE, hash:CRYPT, locked, disabled")),
    }
}

fn set_password(cx: &mut Context, user: &str, selector: &str) -> Result<()> {
    let wanted = password_field(cx, selector)?;
    let (passwd_path, mut passwd) = passwd(cx)?;
    let fields = passwd.find_mut(user).ok_or_else(|| no_user(user))?;
    let change = |old: &str| match &wanted {
        Some(new) => new.clone(),
        None if old.starts_with('!') => old.to_string(),
        None => format!("!{old}"),
    };
    let Some((path, mut shadow)) = table(cx, "/etc/shadow")? else {
        if let Some(field) = fields.get_mut(1) {
            *field = change(field);
        }
        return replace_content(cx, &passwd_path, &passwd.text());
    };
    if shadow.find(user).is_none() {
        shadow.add(&format!("{user}:!:{}:0:99999:7:::", today(cx)));
    }
    let today = today(cx).to_string();
    if let Some([_, password, changed, ..]) = shadow.find_mut(user).map(Vec::as_mut_slice) {
        *password = change(password);
        *changed = today;
    }
    // What passwd itself holds would be asked instead.
    if fields.get(1).is_some_and(|field| field != "x") {
        fields[1] = "x".to_string();
        replace_content(cx, &passwd_path, &passwd.text())?;
    }
    replace_content(cx, &path, &shadow.text())
}

fn today(cx: &Context) -> i64 {
    cx.host.now().seconds.div_euclid(SECONDS_OF_DAY)
}

fn id(args: &Args, name: &str) -> Result<Option<u32>> {
    let checked = |id: i64| u32::try_from(id).map_err(|_| Error::usage(format!("{name} is negative")));
    args.int_if(name).map(checked).transpose()
}

fn add_user(cx: &mut Context, args: &Args) -> Result<Value> {
    let name = args.text("user");
    check_name(&name)?;
    let (passwd_path, mut passwd) = passwd(cx)?;
    let (group_path, mut group) = table(cx, "/etc/group")?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "this guest has no groups").at("/etc/group"))?;
    if passwd.find(&name).is_some() {
        return Err(Error::new(ErrorKind::Exists, "the user exists already").at(name).hint("set-password, ssh-inject"));
    }
    let home = match args.get("home") {
        Some(_) => args.path("home"),
        None => GuestPathBuf::from(format!("/home/{name}").as_str()),
    };
    let comment = args.text_if("comment").unwrap_or_default();
    let shell = match args.text_if("shell") {
        Some(shell) => shell,
        None if cx.session.guest.exists(&GuestPathBuf::from("/bin/bash"))? => "/bin/bash".to_string(),
        None => "/bin/sh".to_string(),
    };
    if [&comment, &shell, &home.to_string()].iter().any(|text| text.contains([':', '\n'])) {
        return Err(Error::usage("home, shell and comment hold no colon and no line end"));
    }
    let uid = match id(args, "uid")? {
        Some(uid) if passwd.ids().contains(&uid) => {
            return Err(Error::new(ErrorKind::Exists, format!("the user id {uid} is taken")));
        }
        Some(uid) => uid,
        None => free_id(&[&passwd.ids(), &group.ids()])?,
    };
    let gid = match (id(args, "gid")?, group.find(&name)) {
        (Some(gid), _) => gid,
        (None, Some(fields)) => fields.get(2).and_then(|gid| gid.parse().ok()).unwrap_or(uid),
        (None, None) => {
            let gid = if group.ids().contains(&uid) { free_id(&[&group.ids(), &passwd.ids()])? } else { uid };
            group.add(&format!("{name}:x:{gid}:"));
            if let Some((path, mut gshadow)) = table(cx, "/etc/gshadow")? {
                gshadow.add(&format!("{name}:!::"));
                replace_content(cx, &path, &gshadow.text())?;
            }
            gid
        }
    };
    for other in args.list("groups") {
        let other = String::from_utf8_lossy(other);
        let members = group
            .find_mut(&other)
            .and_then(|fields| fields.get_mut(3))
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("the guest's /etc/group has no group '{other}'")))?;
        *members = if members.is_empty() { name.clone() } else { format!("{members},{name}") };
    }
    passwd.add(&format!("{name}:x:{uid}:{gid}:{comment}:{home}:{shell}"));
    replace_content(cx, &group_path, &group.text())?;
    replace_content(cx, &passwd_path, &passwd.text())?;
    if let Some((path, mut shadow)) = table(cx, "/etc/shadow")? {
        shadow.add(&format!("{name}:!:{}:0:99999:7:::", today(cx)));
        replace_content(cx, &path, &shadow.text())?;
    }
    make_home(cx, &home, uid, gid)?;
    match args.text_if("password") {
        Some(selector) => done(set_password(cx, &name, &selector)),
        None => Ok(Value::Nothing),
    }
}

/// The home directory with what /etc/skel holds; one that is there stays as it is.
fn make_home(cx: &mut Context, home: &GuestPathBuf, uid: u32, gid: u32) -> Result<()> {
    if look(cx, home, true)?.is_some() {
        return Ok(());
    }
    let owner = SetAttributes { uid: Some(uid), gid: Some(gid), ..SetAttributes::default() };
    cx.session.guest.mkdir_p(&home.parent(), NEW_DIRECTORY)?;
    cx.session.guest.make(home, &NewNode { kind: NewKind::Directory, mode: 0o700, uid, gid })?;
    let skel = GuestPathBuf::from("/etc/skel");
    if look(cx, &skel, true)?.is_some() {
        for name in cx.session.guest.list(&skel)? {
            cx.session.guest.copy(&skel.join(&name), home, true, true)?;
        }
        let mut made = Vec::new();
        cx.session.guest.walk(home, &mut |entry| {
            made.push(entry.path.clone());
            Ok(true)
        })?;
        for path in made.iter().filter(|path| !path.is_empty()) {
            cx.session.guest.set_attributes(&home.join(path), false, &owner)?;
        }
    }
    Ok(())
}

fn ssh_inject(cx: &mut Context, args: &Args) -> Result<Value> {
    let user = args.text("user");
    let (reader, _) = cx.host.read(&args.file("keyfile"))?;
    let mut keys = Vec::new();
    reader.take(KEY_LIMIT).read_to_end(&mut keys)?;
    let (_, passwd) = passwd(cx)?;
    let Some([_, _, uid, gid, _, home, ..]) = passwd.find(&user).map(Vec::as_slice) else { return Err(no_user(&user)) };
    let number = |text: &str| text.parse::<u32>().map_err(|_| Error::corrupt(format!("/etc/passwd: {user}: '{text}'")));
    let (uid, gid, home) = (number(uid)?, number(gid)?, GuestPathBuf::from(home.as_str()));
    if !home.is_absolute() || look(cx, &home, true)?.is_none() {
        return Err(Error::new(ErrorKind::NotFound, format!("the home directory '{home}' of {user} is not there")));
    }
    let folder = home.join(b".ssh");
    let file = folder.join(b"authorized_keys");
    if look(cx, &folder, true)?.is_none() {
        cx.session.guest.make(&folder, &NewNode { kind: NewKind::Directory, mode: 0o700, uid, gid })?;
    }
    let there = match look(cx, &file, true)? {
        Some(_) => cx.session.guest.read_file(&file, EDIT_LIMIT)?,
        None => {
            cx.session.guest.make(&file, &NewNode { kind: NewKind::Regular, mode: 0o600, uid, gid })?;
            Vec::new()
        }
    };
    let mut text = there.clone();
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    let known = |text: &[u8], key: &[u8]| text.split(|b| *b == b'\n').any(|line| line.trim_ascii() == key);
    for key in keys.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|k| !k.is_empty() && !k.starts_with(b"#")) {
        if key.starts_with(b"-----BEGIN") {
            return Err(Error::usage("this is a private key: give the public one, the file that ends in .pub"));
        }
        if !known(&text, key) {
            text.extend_from_slice(key);
            text.push(b'\n');
        }
    }
    if text != there {
        let real = cx.session.guest.realpath(&file)?;
        replace_content(cx, &real, &text)?;
    }
    Ok(Value::Nothing)
}
