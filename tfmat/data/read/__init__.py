"""Readers of foreign files: CIF, POSCAR, tables and folders of them, within limits on size, time and memory."""
