// Package integration runs real containers by the container service on the real services beside it. It has tests only.
package integration
