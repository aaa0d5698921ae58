#!/bin/sh
# Installs the real servers and DICOM tools that the tests use. As root on Debian it installs what is missing; otherwise it lists what
# is missing, and the tests that need it skip (or fail, when COREWATCH_TESTS_REQUIRE_SERVERS=1).
set -u

missing=
need() { # COMMAND PACKAGE
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || case " $missing " in *" $2 "*) ;; *) missing="$missing $2" ;; esac
}
need Orthanc orthanc
ls /usr/share/orthanc/plugins/libOrthancDicomWeb.so* >/dev/null 2>&1 || need libOrthancDicomWeb orthanc-dicomweb
need dcmsend dcmtk
need dciodvfy dicom3tools
need redis-server redis-server
need systemd-analyze systemd
need openssl openssl
need strace strace
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need initdb postgresql
need rsyslogd rsyslog
need chromium chromium
need chromedriver chromium-driver
need nginx nginx-light
need promtool prometheus
ls /usr/lib/*/rsyslog/lmnsd_ossl.so >/dev/null 2>&1 || need lmnsd_ossl rsyslog-openssl

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing for the tests:$missing"
    # RUNLEVEL=1: the packages must not start their services
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    log=$(mktemp)
    # shellcheck disable=SC2086
    if { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    tail -n 5 "$log" >&2
    echo "could not install:$missing; the tests that need them skip" >&2
    rm -f "$log"
else
    echo "missing for the tests:$missing; install them as root (Debian: apt-get install$missing), else the tests that need them skip" >&2
fi
[ "${COREWATCH_TESTS_REQUIRE_SERVERS:-0}" != 1 ]
