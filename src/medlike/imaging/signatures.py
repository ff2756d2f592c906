"""The bytes that files of a kind begin with."""

#: TIFF and BigTIFF, in either byte order.
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

#: JP2 files, and codestreams without that wrapper.
JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")

#: What follows a DICOM preamble (PS3.10 7.1): the prefix, and the first element of group 2.
DICOM_PREFIX = b"DICM\x02\x00"
