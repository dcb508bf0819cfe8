# The program `softkvm` keeps the other's exit status, and refuses in one line what it cannot help.
prog "$BUILD/src/softkvm/preload/softkvm sh -c 'test -c /dev/kvm && test -w /dev/kvm && exit 3'"
wait 10 3
prog "$BUILD/src/softkvm/preload/softkvm --help"
expect 10 "usage: softkvm COMMAND"
wait 10 0
prog "$BUILD/src/softkvm/preload/softkvm"
expect 10 "softkvm: command line: no program; write softkvm COMMAND"
wait 10 1
prog "$BUILD/src/softkvm/preload/softkvm --none"
expect 10 "softkvm: command line: unknown option '--none'; softkvm --help lists the options"
wait 10 1
prog "$BUILD/src/softkvm/preload/softkvm no-such-program"
expect 10 "softkvm: program 'no-such-program': cannot run: No such file or directory; give the name or the path of a program"
wait 10 1
prog "$BUILD/src/softkvm/preload/softkvm $BUILD/tests/guest/stress"
expect 10 "stress': statically linked, so softkvm cannot be loaded into it; use a dynamically linked build"
wait 10 1
