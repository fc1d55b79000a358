CREATE TABLE invoices (
    number TEXT PRIMARY KEY,
    supplier TEXT NOT NULL,
    amount INTEGER NOT NULL,
    due TEXT NOT NULL,
    payments INTEGER NOT NULL DEFAULT 0
);
INSERT INTO invoices (number, supplier, amount, due) VALUES
    ('INV-2029', 'Nordlicht Office Supplies', 124, '2026-12-04'),
    ('INV-2030', 'Kranz Cleaning', 310, '2026-12-09'),
    ('INV-2031', 'Halden Machine Works', 1840, '2026-11-30'),
    ('INV-2032', 'Blue Harbour Catering', 96, '2026-12-15');
