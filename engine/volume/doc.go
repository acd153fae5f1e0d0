// Package volume keeps the volumes of the local driver: a folder each, Root/volumes/NAME/_data, beside a document that
// says who made it and how. A volume with mount options (tmpfs, bind, NFS, a block device) is mounted over its folder
// while containers use it.
package volume
