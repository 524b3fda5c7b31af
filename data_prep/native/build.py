"""Compiles the C++ at first use and loads it by ctypes; without a compiler everything works on the plain path.

The library is kept in ``build/native`` of the checkout (or ``$WINDTUNNEL_NATIVE_DIR``), under a name made of the source,
the compiler and the machine, so that an old one is never loaded. ``WINDTUNNEL_NATIVE=0`` turns it off.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = ("interface.cpp", "jsonl.cpp", "unigram.cpp")
HEADERS = ("jsonl.h", "unigram.h")
# Not -march=native: a cluster's nodes differ and share the folder. No fused multiply-add: it rounds otherwise.
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC")
PAD_BYTES = 64  # kPad in unigram.h


class NativeUnavailableError(Exception):
    """Why there is no compiled library here; the plain path stands in."""


def _compiler() -> str:
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        if path := shutil.which(name):
            return path
    raise NativeUnavailableError("no C++ compiler (c++, g++, clang++ or $CXX) on this machine")


def _folder() -> Path:
    """Where libraries are kept: in the checkout, else (read-only) in the temporary folder."""
    if chosen := os.environ.get("WINDTUNNEL_NATIVE_DIR"):
        return Path(chosen)
    root = HERE.parents[1]
    if os.access(root, os.W_OK):
        return root / "build" / "native"
    return Path(tempfile.gettempdir()) / f"windtunnel-native-{os.getuid()}"


def _compile(target: Path, compiler: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    command = [compiler, *FLAGS, *(str(HERE / name) for name in SOURCES), "-o", str(temporary)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise NativeUnavailableError(f"{compiler} failed: {(done.stderr or done.stdout).strip()[-500:]}")
        os.replace(temporary, target)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailableError(f"{compiler} failed: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@cache
def library() -> ctypes.CDLL:
    """The loaded library, compiled if it is not there yet (a few seconds, once a machine).

    Raises:
        NativeUnavailableError: It was turned off, or cannot be compiled or loaded; says why.
    """
    if os.environ.get("WINDTUNNEL_NATIVE") == "0":
        raise NativeUnavailableError("turned off by WINDTUNNEL_NATIVE=0")
    compiler = _compiler()
    content = b"".join((HERE / name).read_bytes() for name in (*SOURCES, *HEADERS))
    facts = repr((FLAGS, compiler, platform.machine(), platform.libc_ver(), platform.system())).encode()
    target = _folder() / f"windtunnel-{hashlib.sha256(content + facts).hexdigest()[:16]}.so"
    if not target.is_file():
        _compile(target, compiler)
    try:
        return _declared(ctypes.CDLL(str(target)))
    except OSError as error:
        raise NativeUnavailableError(f"{target} cannot be loaded: {error}") from error


def _declared(lib: ctypes.CDLL) -> ctypes.CDLL:
    """Argument types, so that ctypes passes 64-bit pointers and counts."""
    pointer: Any = ctypes.c_void_p
    i64, i32, u64 = ctypes.c_int64, ctypes.c_int32, ctypes.c_uint64
    lib.wt_new.restype = pointer
    lib.wt_new.argtypes = [pointer] * 3 + [i64, pointer, i64, ctypes.c_float, i32, i32, i32]
    lib.wt_free.restype = None
    lib.wt_free.argtypes = [pointer]
    lib.wt_encode.restype = i64
    lib.wt_encode.argtypes = [pointer, pointer, pointer, i64, pointer, i32, pointer, pointer]
    lib.wt_extract.restype = None
    lib.wt_extract.argtypes = [pointer, i64, pointer, i64, u64] + [pointer] * 5
    lib.wt_keys.restype = None
    lib.wt_keys.argtypes = [pointer, pointer, i64, u64, pointer]
    return lib
