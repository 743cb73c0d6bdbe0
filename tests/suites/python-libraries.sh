#!/bin/bash
# The tests that come with Debian's Tornado, Twisted, Trio and pyzmq: event loops of their own kind on epoll, poll and
# select, with servers and clients in one process. For tests/suites/run.py, which says where the common part lies.
NAME=python-libraries
. "$SUITES/lib.sh"
pkgs python3-tornado python3-twisted python3-trio python3-trustme python3-zmq python3-pytest python3-pytest-asyncio iproute2
[ "${PREPARE_ONLY:-0}" = 1 ] && exit 0
cd "$LOG"
under_pytest() {
  ns $WRAP timeout 200 /usr/bin/python3 -m pytest -q -p no:cacheprovider --junit-xml "$LOG/$1.xml" --pyargs "$@" > "$LOG/$1.out" 2>&1
}
# All but those that measure time, need names of other hosts, or want TCP and UDP on one port (docs/limitations.md).
for module in ioloop iostream tcpserver tcpclient netutil httpserver httpclient simple_httpclient websocket web; do
  under_pytest tornado.test.${module}_test
done
for module in socket highlevel_socket highlevel_open_tcp_stream highlevel_open_tcp_listeners highlevel_serve_listeners ssl; do
  under_pytest trio.tests.test_$module
done
for module in socket reqrep pair pubsub multipart poll monitor auth; do
  under_pytest zmq.tests.test_$module
done
for module in test.test_tcp test.test_ftp internet.test.test_tcp internet.test.test_core internet.test.test_endpoints \
  web.test.test_web web.test.test_newclient web.test.test_webclient conch.test.test_ssh words; do
  ns $WRAP timeout 200 trial3 --reporter=bwverbose twisted.$module > "$LOG/twisted.$module.trial" 2>&1
done
/usr/bin/python3 - "$LOG" > "$RES" <<'PY'
import pathlib, re, sys, xml.etree.ElementTree as E
log = pathlib.Path(sys.argv[1])
for path in log.glob("*.xml"):
    for test in E.parse(path).getroot().iter("testcase"):
        failed = test.find("failure") is not None or test.find("error") is not None
        result = "FAIL" if failed else "SKIP" if test.find("skipped") is not None else "PASS"
        print(result, ".".join([path.stem, test.get("classname").rpartition(".")[2], test.get("name")]).replace(" ", "_"))
RESULTS = {"OK": "PASS", "SKIPPED": "SKIP", "TODO": "SKIP"}
for path in log.glob("*.trial"):
    for line in path.read_text(errors="replace").splitlines():
        if test := re.match(r"([\w.]+) \.\.\. .*\[(\w+)\]$", line):
            print(RESULTS.get(test[2], "FAIL"), test[1])
PY
summary
