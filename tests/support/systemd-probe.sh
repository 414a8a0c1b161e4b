#!/bin/sh
# Runs inside the container, as root, under a real systemd. Says what it sees as key=value lines; the test judges them.
export PATH=/opt/lab:/usr/bin:/usr/sbin HOME=/root
home=/home/ada/.lilac_metaflora
# Where `cargo install` puts it: inside of what ProtectHome hides.
program=/home/ada/bin/moon
now() { date +%s%3N; }
value() { systemctl show "${2:-moon.service}" --property="$1" --value; }
say() { echo "$1=$2"; }
as_ada() { setpriv --reuid=1000 --regid=1000 --clear-groups env HOME=/home/ada PATH="$PATH" "$@"; }
# Waits, at most 20 s, for a command to hold.
until_holds() { n=0; until eval "$1"; do n=$((n + 1)); [ $n -gt 400 ] && return 1; sleep 0.05; done; }
is_back() { [ "$(value ActiveState)" = active ] && [ "$(value MainPID)" != "$1" ] && [ "$(value MainPID)" != 0 ]; }
took() { echo $(($2 - $1)); }
failures() { journalctl --no-pager -u moon-failed.service -o cat | grep -c "^Starting moon-failed.service"; }

moon --home $home service install --system --as ada --user-home /home/ada --program $program > /out/install 2>&1
say installed $?
say ready "$(value ActiveState) $(value SubState)"
say status "$(value StatusText)"
say user "$(ps -o user= -p "$(value MainPID)")"
moon --home $home service install --system --as ada --user-home /home/ada --program $program > /out/again 2>&1
say again "$? $(grep -c 'already so' /out/again) $(grep -c 'runs already' /out/again)"
# Only the pause is made shorter; limits, watchdog and walls stay as they are written.
mkdir -p /etc/systemd/system/moon.service.d
printf '[Service]\nRestartSec=200ms\n' > /etc/systemd/system/moon.service.d/pause.conf
systemctl daemon-reload

until_holds "[ -n \"\$(find $home/archives/objects -name '*.zst' 2>/dev/null)\" ]"
say archived "$(find $home/archives/objects -name '*.zst' | wc -l)"
say wide "$(find $home ! -type l -perm /077 | wc -l)"
as_ada moon --home $home ctl status > /out/answer 2>&1
say answers $?

# Behind the walls it reaches what the settings name: a database with its -wal, a log that it rotates, the metrics' file.
as_ada moon --home $home health --now --json --check 'database:~/agent/memory/*.db' > /out/health 2>&1
say looks_at_databases $?
as_ada moon --home $home rotate-logs > /out/rotated 2>&1
say rotates "$? $(ls /home/ada/logs | grep -c '^agent.log-')"
until_holds "[ -s /srv/textfile/moon.prom ]"
say metrics $?

pid=$(value MainPID) t=$(now)
kill -9 "$pid"
until_holds "is_back $pid"
say killed_back "$? $(took "$t" "$(now)")"

pid=$(value MainPID) t=$(now)
kill -STOP "$pid"
until_holds "is_back $pid"
say hung_back "$? $(took "$t" "$(now)")"
say hung_why "$(journalctl --no-pager -u moon.service -o cat | grep -c 'Watchdog timeout')"

pid=$(value MainPID)
printf '\n[thresholds]\narchive = 0.7\n' >> $home/moon.toml
systemctl reload moon.service
say reloaded "$? $(value ActiveState) $([ "$(value MainPID)" = "$pid" ] && echo same)"
say reloaded_value "$(as_ada moon --home $home ctl status --json | grep -c '^  "ok":')"
cp $home/moon.toml /out/moon.toml
printf '\n[thresholds]\nnonsense = 1\n' >> $home/moon.toml
systemctl reload moon.service 2> /dev/null
say broken_reload "$? $(value ActiveState) $([ "$(value MainPID)" = "$pid" ] && echo same)"
cat /out/moon.toml > $home/moon.toml

as_ada moon --home $home stop > /out/stop 2>&1
say stopped "$? $(value ActiveState) $(value Result)"
sleep 1
say stays "$(value ActiveState) $([ -e $home/state/stopped ] && echo noted)"

before=$(failures)
systemctl reset-failed moon.service
systemctl start moon.service
kills=0
while [ "$(value ActiveState)" != failed ] && [ $kills -lt 12 ]; do
  kills=$((kills + 1)) pid=$(value MainPID)
  kill -9 "$pid"
  until_holds "is_back $pid || [ \"\$(value ActiveState)\" = failed ]"
done
say storm "$kills $(value ActiveState) $(value Result)"
until_holds "[ \$(failures) -gt $before ] && [ \"\$(value ActiveState moon-failed.service)\" != activating ]"
say told "$(($(failures) - before))"
# The verb of moon-failed.service is Moon's own, and it has done its work.
say told_ended "$(value Result moon-failed.service) $(value ExecMainStatus moon-failed.service)"
say alert "$(as_ada moon --home $home alerts list 2> /dev/null | grep -c "systemd has given up starting it")"
say refused "$(systemctl start moon.service 2> /dev/null; echo $?)"
systemctl reset-failed moon.service
systemctl start moon.service
say by_hand "$? $(value ActiveState)"
# The first refresh after a start puts right what the kills left half-written.
t=$(now)
until_holds "as_ada moon --home $home verify > /out/verify 2>&1"
say verified "$? $(took "$t" "$(now)")"

# The crontab of a real cron.
printf '# mine\nMAILTO=""\n7 4 * * * /usr/bin/true  \n' | crontab -
crontab -l > /out/cron.before
moon --home /opt/moon service cron --yes > /out/cron.told 2>&1
say cron "$?"
crontab -l > /out/cron.with
moon --home /opt/moon service cron --yes > /dev/null 2>&1
crontab -l > /out/cron.twice
moon --home /opt/moon cron-install --remove --yes > /dev/null 2>&1
say cron_removed "$?"
crontab -l > /out/cron.after

moon --home $home service uninstall --system --as ada --user-home /home/ada --program $program > /out/uninstall 2>&1
say uninstalled "$? $(value LoadState) $(ls /etc/systemd/system/moon*.service 2> /dev/null | wc -l)"
# The same as a user's own service, under that user's systemd.
as_user() { as_ada env XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus "$@"; }
say user_manager "$(systemctl start user@1000.service 2> /out/user_manager; echo $?)"
as_user moon --home $home service install > /out/user_install 2>&1
say user_installed "$? $(as_user systemctl --user show moon.service --property=ActiveState --value) $(as_user systemctl --user show moon.service --property=StatusText --value)"
as_user moon --home $home restart > /out/user_restart 2>&1
say user_restarted "$?"
as_user moon --home $home stop >> /out/user_restart 2>&1
say user_stopped "$? $(as_user systemctl --user show moon.service --property=ActiveState --value)"
as_user moon --home $home start >> /out/user_restart 2>&1
say user_started "$? $(as_user systemctl --user show moon.service --property=ActiveState --value)"
as_user moon --home $home service status >> /out/user_restart 2>&1
say user_status "$?"
as_user moon --home $home service uninstall >> /out/user_restart 2>&1
say user_uninstalled "$? $(ls /home/ada/.config/systemd/user | wc -l)"

journalctl --no-pager -o short-monotonic -u moon.service -u moon-failed.service -u user@1000.service > /out/journal
say done yes
