package logs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// priorities of syslog, which the journal has as well: what is written to stderr is an error.
const (
	severityError = 3
	severityInfo  = 6
)

func severity(stream string) int {
	if stream == Stderr {
		return severityError
	}
	return severityInfo
}

const (
	dialTimeout = 10 * time.Second
	// sendTimeout is how long a server that takes nothing holds up a container whose log mode is blocking.
	sendTimeout = 10 * time.Second
)

func dial(f Forward) (forwarder, error) {
	switch f.To {
	case "syslog":
		s := &syslog{Forward: f}
		s.host, _ = os.Hostname()
		return s, s.connect()
	case "journald":
		return dialJournal(f)
	}
	return nil, fmt.Errorf("no log driver named '%s' is registered", f.To)
}

// syslog sends to a server of RFC 3164 or RFC 5424.
type syslog struct {
	Forward
	host string
	conn net.Conn
}

func (s *syslog) connect() (err error) {
	if s.Network != "" {
		s.conn, err = net.DialTimeout(s.Network, s.Address, dialTimeout)
		return err
	}
	for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
		for _, network := range []string{"unixgram", "unix"} {
			if s.conn, err = net.DialTimeout(network, path, dialTimeout); err == nil {
				return nil
			}
		}
	}
	return errors.New("Unix syslog delivery error")
}

// send tries once more with a new connection, since the server may have been started anew.
func (s *syslog) send(stream string, text []byte, at time.Time, _ bool) error {
	message := s.format(stream, text, at)
	if s.conn != nil {
		if s.write(message) == nil {
			return nil
		}
		s.conn.Close()
		s.conn = nil
	}
	if err := s.connect(); err != nil {
		return fmt.Errorf("sending to syslog: %w", err)
	}
	if err := s.write(message); err != nil {
		return fmt.Errorf("sending to syslog: %w", err)
	}
	return nil
}

func (s *syslog) write(message []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(message)
	return err
}

// format is a whole message, as Docker's driver writes it.
func (s *syslog) format(stream string, text []byte, at time.Time) []byte {
	priority, pid := s.Facility*8+severity(stream), os.Getpid()
	var head string
	switch s.Format {
	case "rfc3164":
		head = fmt.Sprintf("<%d>%s %s %s[%d]: ", priority, at.Format(time.Stamp), s.host, s.Tag, pid)
	case "rfc5424":
		head = fmt.Sprintf("<%d>1 %s %s %s %d %s - ", priority, at.Format(time.RFC3339), s.host, s.Tag, pid, s.Tag)
	case "rfc5424micro":
		head = fmt.Sprintf("<%d>1 %s %s %s %d %s - ", priority, at.Format("2006-01-02T15:04:05.000000Z07:00"), s.host, s.Tag, pid, s.Tag)
	default:
		head = fmt.Sprintf("<%d>%s %s[%d]: ", priority, at.Format(time.Stamp), s.Tag, pid)
	}
	return append(append([]byte(head), text...), '\n')
}

func (s *syslog) close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}

// JournalSocket is where systemd's journal listens.
const JournalSocket = "/run/systemd/journal/socket"

// journal sends in the native protocol of systemd's journal (systemd.io/JOURNAL_NATIVE_PROTOCOL).
type journal struct {
	conn    *net.UnixConn
	fields  []byte // those of every message
	ordinal uint64
}

func dialJournal(f Forward) (forwarder, error) {
	path := f.Address
	if path == "" {
		path = JournalSocket
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		return nil, fmt.Errorf("journald is not enabled on this host: %w", err)
	}
	j := &journal{conn: conn}
	for name, value := range f.Fields {
		j.fields = appendField(j.fields, name, []byte(value))
	}
	return j, nil
}

func (j *journal) send(stream string, text []byte, at time.Time, partial bool) error {
	j.ordinal++
	b := append([]byte(nil), j.fields...)
	b = appendField(b, "MESSAGE", text)
	b = appendField(b, "PRIORITY", strconv.AppendInt(nil, int64(severity(stream)), 10))
	b = appendField(b, "SYSLOG_TIMESTAMP", at.UTC().AppendFormat(nil, time.RFC3339Nano))
	b = appendField(b, "CONTAINER_LOG_ORDINAL", strconv.AppendUint(nil, j.ordinal, 10))
	if partial {
		b = appendField(b, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
	}
	if err := j.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	if _, err := j.conn.Write(b); err != nil {
		return fmt.Errorf("sending to the journal: %w", err)
	}
	return nil
}

func (j *journal) close() error { return j.conn.Close() }

// appendField writes NAME=VALUE, or the value with its length where it has several lines.
func appendField(b []byte, name string, value []byte) []byte {
	b = append(b, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		b = append(append(b, '='), value...)
	} else {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
		b = append(b, value...)
	}
	return append(b, '\n')
}
