#!/usr/bin/perl
# A guest's cable: opens the slot's tap as the VMM does (by name, as the slot's user, inside the
# slot's namespace) and carries every frame to and from a tap in the guest's own namespace. In Perl,
# since a tap is opened by an ioctl, which Node does not have, and Debian always has Perl.
# Arguments: slot netns, slot tap, uid, gid, guest netns, guest tap. Says "ready" when it carries.
use strict;
use warnings;
use POSIX ();

my ($slot_netns, $slot_tap, $uid, $gid, $guest_netns, $guest_tap) = @ARGV;
my $SETNS = (POSIX::uname())[4] eq 'aarch64' ? 268 : 308;

sub enter {
    my ($path) = @_;
    open(my $netns, '<', $path) or die "open $path: $!\n";
    syscall($SETNS, fileno($netns), 0x40000000) == 0 or die "setns $path: $!\n";
}

sub open_tap {
    my ($name) = @_;
    open(my $tap, '+<', '/dev/net/tun') or die "open /dev/net/tun: $!\n";
    # TUNSETIFF with IFF_TAP | IFF_NO_PI
    ioctl($tap, 0x400454ca, pack('a16 s x22', $name, 0x1002)) or die "tap $name: $!\n";
    return $tap;
}

enter($guest_netns);
my $guest = open_tap($guest_tap);
enter($slot_netns);
$) = "$gid $gid";
$( = $gid;
POSIX::setuid($uid) or die "setuid: $!\n";
my $slot = open_tap($slot_tap);
$| = 1;
print "ready\n";

my %other = (fileno($guest) => $slot, fileno($slot) => $guest);
while (1) {
    my $readable = '';
    vec($readable, fileno($_), 1) = 1 for ($guest, $slot);
    select($readable, undef, undef, undef) > 0 or next;
    for my $from ($guest, $slot) {
        next unless vec($readable, fileno($from), 1);
        my $frame;
        my $length = sysread($from, $frame, 70000);
        next unless $length;
        # A tap that is down refuses frames; so does a cable that is not plugged in.
        syswrite($other{fileno($from)}, $frame);
    }
}
