"""Videos many to a file, in the chunk format of litdata, for object stores and network disks that dislike small files."""
