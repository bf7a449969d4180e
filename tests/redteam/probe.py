"""What attacks share: they say when they succeeded, and that they came to their end."""
import atexit
import ctypes
import errno
import os
import re
import socket
import struct
import sys

atexit.register(lambda: print("PROBED", flush=True))
libc = ctypes.CDLL(None, use_errno=True)
# Written so that these very lines do not match.
CANARY = re.compile(b"pwc[a]nary-[0-9a-f]{12}")
# Programs and packages of the machine: tens of thousands of files.
LARGE = {"registry", "toolchains", "versions", "site-packages", "dist-packages", "node_modules", "ssl", "alternatives", "lib"}
# x86-64, aarch64
NUMBERS = {
    "ptrace": (101, 117), "syslog": (103, 116), "acct": (163, 89), "settimeofday": (164, 170), "mount": (165, 40),
    "umount2": (166, 39), "swapon": (167, 224), "reboot": (169, 142), "init_module": (175, 105), "kexec_load": (246, 104),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "unshare": (272, 97),
    "perf_event_open": (298, 241), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "setns": (308, 268),
    "process_vm_readv": (310, 270), "finit_module": (313, 273), "bpf": (321, 280), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "open_tree": (428, 428), "fsopen": (430, 430), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
}


def won(what):
    print("ATTACK", "SUCCEEDED:", what, flush=True)


def syscall(name, *arguments):
    """The call's result; -1 with `ctypes.get_errno()`."""
    number = NUMBERS[name][0 if os.uname().machine == "x86_64" else 1]
    ctypes.set_errno(0)
    return libc.syscall(ctypes.c_long(number), *[
        ctypes.c_char_p(value) if isinstance(value, bytes) else value if hasattr(value, "_type_") or hasattr(value, "contents") else ctypes.c_void_p(value)
        for value in arguments
    ])


def read(path, most=1 << 20):
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(descriptor, most)
        finally:
            os.close(descriptor)
    except OSError:
        return b""


def look(where, most=1 << 20):
    """Reads a file and says if a secret is in it."""
    if CANARY.search(read(where, most)):
        won("a secret in " + str(where))


def look_below(folder, most=2000):
    """Reads every file below a folder."""
    for root, folders, names in os.walk(folder, onerror=None):
        folders[:] = [name for name in folders if os.path.join(root, name) not in ("/proc", "/sys", "/dev", "/usr", "/workspace") and name not in LARGE]
        for name in names:
            most -= 1
            if most < 0:
                return
            path = os.path.join(root, name)
            if os.path.isfile(path):
                look(path, 1 << 16)


def write(path, text=b"owned\n"):
    try:
        with open(path, "ab") as file:
            file.write(text)
        return True
    except OSError:
        return False


def connect(address, family=socket.AF_INET, kind=socket.SOCK_STREAM, seconds=1.5):
    """Whether somebody answers there."""
    try:
        with socket.socket(family, kind) as connection:
            connection.settimeout(seconds)
            connection.connect(address)
            connection.send(b"GET / HTTP/1.0\r\n\r\n")
            return True
    except OSError:
        return False


def others():
    """Processes but our own."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            yield int(name)


def new_user():
    """All capabilities in a user namespace of our own, where the kernel lets us."""
    uid, gid = os.getuid(), os.getgid()
    if syscall("unshare", 0x10000000 | 0x00020000) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % gid)):
        try:
            with open("/proc/self/" + name, "w") as file:
                file.write(text)
        except OSError:
            pass
    return True


def proxied(data, seconds=8):
    """What the proxy answers to these bytes, until it closes or says no more."""
    with socket.create_connection(("127.0.0.1", 3128), seconds) as connection:
        connection.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))
        return answer(connection, seconds)


def answer(connection, seconds=8):
    said = b""
    connection.settimeout(seconds)
    try:
        while part := connection.recv(1 << 16):
            said += part
            connection.settimeout(0.4)
    except OSError:
        pass
    return said


def tunnelled(target, data, pieces=1):
    """What comes back through a tunnel that must be granted, sent in some pieces."""
    with socket.create_connection(("127.0.0.1", 3128), 8) as connection:
        connection.sendall(("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target)).encode())
        head = connection.recv(4096)
        assert b" 200 " in head, head
        size = -(-len(data) // pieces)
        try:
            for start in range(0, len(data), size):
                connection.sendall(data[start:start + size])
        except OSError:
            pass
        return answer(connection)


def field(data, width):
    return len(data).to_bytes(width, "big") + data


def server_name(*names, kind=0):
    """The extension that names servers."""
    listed = b"".join(bytes([kind]) + field(name if isinstance(name, bytes) else name.encode(), 2) for name in names)
    return b"\0\0" + field(field(listed, 2), 2)


# Versions, groups, signatures and a key: what a server of today needs.
USUAL = (b"\0\x2b" + field(b"\x04\x03\x04\x03\x03", 2) + b"\0\x0a" + field(b"\0\x02\0\x1d", 2)
         + b"\0\x0d" + field(b"\0\x06\x04\x03\x08\x04\x08\x07", 2) + b"\0\x33" + field(field(b"\0\x1d" + field(bytes(32), 2), 2), 2))


def hello(*extensions, usual=USUAL):
    """The message with which TLS begins."""
    body = b"\x03\x03" + bytes(32) + field(b"", 1) + field(b"\x13\x01\x13\x02\xc0\x2b\xc0\x2f", 2) + field(b"\0", 1)
    body += field(b"".join(extensions) + usual, 2)
    return b"\x01" + field(body, 3)


def records(message, size=1 << 14):
    return b"".join(b"\x16\x03\x01" + field(message[start:start + size], 2) for start in range(0, len(message), size))
