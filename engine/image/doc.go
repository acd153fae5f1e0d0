// Package image keeps images: pulled, loaded, imported, and the root filesystems made of them.
package image
